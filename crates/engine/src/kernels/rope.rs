//! Rotary position embedding on halves: element `i` of a head is rotated with element `i + head_dim / 2`.

/// Cosine and sine for the positions of one forward pass, computed once and used by every layer and head.
#[derive(Clone, Debug)]
pub struct Angles {
    /// `theta^(-2i / head_dim)`
    frequencies: Vec<f32>,
    /// `[rows, head_dim / 2]` of cosine and sine.
    table: Vec<(f32, f32)>,
}

impl Angles {
    /// Room for the angles of `capacity` rows.
    #[must_use]
    pub fn new(head_dim: usize, theta: f32, capacity: usize) -> Self {
        let half = head_dim / 2;
        let frequency = |i: usize| f64::from(theta).powf(-(i as f64) / half as f64) as f32;
        Self { frequencies: (0..half).map(frequency).collect(), table: vec![(1.0, 0.0); capacity * half] }
    }

    /// Computes the angles of the rows' positions.
    pub fn set_positions(&mut self, positions: impl Iterator<Item = usize>) {
        let half = self.frequencies.len();
        for (position, row) in positions.zip(self.table.chunks_mut(half.max(1))) {
            for (entry, &frequency) in row.iter_mut().zip(&self.frequencies) {
                // The angle is rounded to f32 as in the models' training code; its sine is then exact to f32.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                *entry = (cos as f32, sin as f32);
            }
        }
    }

    /// Rotates one head of row `row`.
    pub(super) fn rotate(&self, row: usize, head: &mut [f32]) {
        let half = self.frequencies.len();
        let (first, second) = head.split_at_mut(half);
        for ((a, b), &(cos, sin)) in
            first.iter_mut().zip(second).zip(&self.table[row * half..(row + 1) * half])
        {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
