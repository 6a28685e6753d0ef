//! The gate of the feed-forward part: `relu(gate)² · up`.

/// `gate_up`: `[tokens, 2 * ffn]`, gate first; out: `[tokens, ffn]`.
pub fn forward(gate_up: &[f32], ffn: usize, out: &mut [f32]) {
    for (gate_up, out) in gate_up.chunks_exact(2 * ffn).zip(out.chunks_exact_mut(ffn)) {
        let (gate, up) = gate_up.split_at(ffn);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let positive = gate.max(0.0);
            *out = positive * positive * up;
        }
    }
}

/// `gate_up`, `d_gate_up`: `[tokens, 2 * ffn]`; `d_out`: `[tokens, ffn]`.
pub fn backward(gate_up: &[f32], d_out: &[f32], ffn: usize, d_gate_up: &mut [f32]) {
    let rows = gate_up.chunks_exact(2 * ffn).zip(d_gate_up.chunks_exact_mut(2 * ffn));
    for ((gate_up, d_gate_up), d_out) in rows.zip(d_out.chunks_exact(ffn)) {
        let (gate, up) = gate_up.split_at(ffn);
        let (d_gate, d_up) = d_gate_up.split_at_mut(ffn);
        for ((((d_gate, d_up), gate), up), d_out) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(d_out)
        {
            let positive = gate.max(0.0);
            *d_gate = d_out * up * 2.0 * positive;
            *d_up = d_out * positive * positive;
        }
    }
}
