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

/// Declares `$name`, which adds products to the chains of rows, `$together` rows at a time, by vectors of `$width` values.
#[cfg(target_arch = "x86_64")]
macro_rules! row_chains {
    (
        $name:ident: $features:literal, $width:literal, $together:literal, $zero:path, $load:path, $store:path,
        $multiply_add:path
    ) => {
        fn $name(w: &[f32], stride: usize, x: &[f32], sums: &mut Sums) {
            #[target_feature(enable = $features)]
            fn wide(w: &[f32], stride: usize, x: &[f32], sums: &mut Sums) {
                const VECTORS: usize = LANES / $width;
                assert!(w.len() >= (ROWS - 1) * stride + x.len());
                let (whole, rest) = x.as_chunks::<LANES>();
                for first in (0..ROWS).step_by($together) {
                    let mut chains = [[$zero(); VECTORS]; $together];
                    // SAFETY: each row of sums holds as many vectors, and each row of `w` holds as many values as `x`.
                    unsafe {
                        for row in 0..$together {
                            for vector in 0..VECTORS {
                                chains[row][vector] = $load(sums[first + row].as_ptr().add($width * vector));
                            }
                        }
                        let mut w = w.as_ptr().add(first * stride);
                        for x in whole {
                            for vector in 0..VECTORS {
                                let x = $load(x.as_ptr().add($width * vector));
                                for row in 0..$together {
                                    let w = $load(w.add(row * stride + $width * vector));
                                    chains[row][vector] = $multiply_add(w, x, chains[row][vector]);
                                }
                            }
                            w = w.add(LANES);
                        }
                        for row in 0..$together {
                            for vector in 0..VECTORS {
                                $store(
                                    sums[first + row].as_mut_ptr().add($width * vector),
                                    chains[row][vector],
                                );
                            }
                        }
                    }
                }
                let done = x.len() - rest.len();
                for (row, sums) in sums.iter_mut().enumerate() {
                    for ((w, x), sum) in w[row * stride + done..].iter().zip(rest).zip(sums) {
                        *sum = w.mul_add(*x, *sum);
                    }
                }
            }
            // SAFETY: a kernel is found only on processors with these features.
            unsafe { wide(w, stride, x, sums) }
        }
    };
}
