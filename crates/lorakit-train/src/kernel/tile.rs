//! A tile of sums in registers.

/// Declares `$name`, a [`super::path::Tile`] of `$rows` rows and two vectors of `$width` columns, or one of them where
/// the sums end.
///
/// `$begin` turns what is there into a sum, and `$add` adds the products of a lane of each operand. Both are called
/// where `$features` are enabled.
macro_rules! tile {
    (
        $name:ident: $features:literal, [$($count:literal)*] of $rows:ident, $width:literal, $splat:path, $load:path,
        $store:path, $prefetch:expr, $begin:path, $add:path
    ) => {
        fn $name(lanes: usize, left: &[f32], right: &[f32], sums: &mut [&mut [f32]], at: usize) {
            #[target_feature(enable = $features)]
            fn rows<const M: usize, const V: usize>(
                lanes: usize,
                left: &[f32],
                right: &[f32],
                sums: &mut [&mut [f32]],
                at: usize,
            ) {
                assert!(left.len() >= lanes * $rows && right.len() >= lanes * 2 * $width && sums.len() == M);
                let (mut left, mut right) = (left.as_ptr(), right.as_ptr());
                let mut places = [std::ptr::null_mut::<f32>(); M];
                for (place, sums) in places.iter_mut().zip(sums) {
                    *place = sums[at..at + V * $width].as_mut_ptr();
                }
                let mut sums = [[$splat(0.0); V]; M];
                // SAFETY: the slice of each place was just checked to hold `V` vectors, and those of the operands to
                // hold `lanes` lanes of a tile and of a panel, by which the pointers advance as many times.
                unsafe {
                    for i in 0..M {
                        for v in 0..V {
                            sums[i][v] = $begin($load(places[i].add(v * $width)));
                        }
                        $prefetch(places[i].wrapping_add(V * $width));
                    }
                    for _ in 0..lanes {
                        let mut columns = [$splat(0.0); V];
                        for v in 0..V {
                            columns[v] = $load(right.add(v * $width));
                        }
                        for i in 0..M {
                            let row = $splat(*left.add(i));
                            for v in 0..V {
                                sums[i][v] = $add(row, columns[v], sums[i][v]);
                            }
                        }
                        left = left.add($rows);
                        right = right.add(2 * $width);
                    }
                    for i in 0..M {
                        for v in 0..V {
                            $store(places[i].add(v * $width), sums[i][v]);
                        }
                    }
                }
            }
            let whole = sums.first().is_some_and(|sums| sums.len() - at >= 2 * $width);
            // SAFETY: a kernel is found only on processors with these features.
            unsafe {
                match (sums.len(), whole) {
                    $(($count, true) => rows::<$count, 2>(lanes, left, right, sums, at),)*
                    $(($count, false) => rows::<$count, 1>(lanes, left, right, sums, at),)*
                    (rows, _) => unreachable!("a tile of {rows} rows"),
                }
            }
        }
    };
}
