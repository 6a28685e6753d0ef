//! Products of the packed weights with a few tokens, which differ in one instruction and in how many sums fit.

/// `dot_few` with these instructions: `add_products` multiplies for `registers_for` so many tokens, and `$finish` adds what it has summed
/// over a run of tiles to the sums in memory.
macro_rules! few_products {
    ($features:literal, $finish:expr) => {
        #[target_feature(enable = $features)]
        fn dot_few<const T: usize>(tiles: &[Tile], x: &[Quad], sums: &mut [[i32; TILE_ROWS]]) {
            let Some(sums) = sums.first_chunk_mut::<T>() else { return };
            let x = x.as_chunks::<T>().0.as_chunks::<QUADS>().0;
            for (tiles, x) in tiles.chunks(FEW_RUN).zip(x.chunks(FEW_RUN)) {
                // Written out, since an index that is known makes it 1.4 times as fast as a loop over them.
                match registers_for(T) {
                    4 => few_of_run::<0, 4, T>(tiles, x, sums),
                    2 => {
                        few_of_run::<0, 2, T>(tiles, x, sums);
                        few_of_run::<2, 2, T>(tiles, x, sums);
                    }
                    _ => {
                        few_of_run::<0, 1, T>(tiles, x, sums);
                        few_of_run::<1, 1, T>(tiles, x, sums);
                        few_of_run::<2, 1, T>(tiles, x, sums);
                        few_of_run::<3, 1, T>(tiles, x, sums);
                    }
                }
            }
        }

        /// A run of tiles, for `P` registers of rows from number `FIRST` on.
        #[inline]
        #[target_feature(enable = $features)]
        fn few_of_run<const FIRST: usize, const P: usize, const T: usize>(
            tiles: &[Tile],
            x: &[[[Quad; T]; QUADS]],
            sums: &mut [[i32; TILE_ROWS]; T],
        ) {
            let mut totals = [[x86::_mm256_setzero_si256(); P]; T];
            for (tile, x) in tiles.iter().zip(x) {
                if FIRST == 0 {
                    for half in tile.halves() {
                        fetch_ahead(half.as_ptr());
                    }
                }
                for quad in 0..QUADS {
                    let mut weights = [x86::_mm256_setzero_si256(); P];
                    for (part, weights) in weights.iter_mut().enumerate() {
                        *weights = field(register(tile, FIRST + part), quad);
                    }
                    // Loops over constants rather than closures: only they are compiled with these instructions and unrolled.
                    for t in 0..T {
                        let x = broadcast(x[quad][t]);
                        for part in 0..P {
                            totals[t][part] = add_products(totals[t][part], weights[part], x);
                        }
                    }
                }
            }
            for t in 0..T {
                for part in 0..P {
                    $finish(totals[t][part], &mut sums[t][(FIRST + part) * ROWS..]);
                }
            }
        }
    };
}
