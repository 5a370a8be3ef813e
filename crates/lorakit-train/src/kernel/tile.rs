//! A tile of sums in registers.

/// Declares `$name`, a [`super::path::Tile`] of `$rows` rows and two vectors of `$width` columns.
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
            fn rows<const M: usize>(
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
                    *place = sums[at..at + 2 * $width].as_mut_ptr();
                }
                let mut sums = [[$splat(0.0); 2]; M];
                // SAFETY: the slice of each place was just checked to hold two vectors, and those of the operands to
                // hold `lanes` lanes of a tile and of a panel, by which the pointers advance as many times.
                unsafe {
                    for i in 0..M {
                        sums[i] = [$begin($load(places[i])), $begin($load(places[i].add($width)))];
                        $prefetch(places[i].wrapping_add(2 * $width));
                    }
                    for _ in 0..lanes {
                        let columns = [$load(right), $load(right.add($width))];
                        for i in 0..M {
                            let row = $splat(*left.add(i));
                            sums[i][0] = $add(row, columns[0], sums[i][0]);
                            sums[i][1] = $add(row, columns[1], sums[i][1]);
                        }
                        left = left.add($rows);
                        right = right.add(2 * $width);
                    }
                    for i in 0..M {
                        $store(places[i], sums[i][0]);
                        $store(places[i].add($width), sums[i][1]);
                    }
                }
            }
            // SAFETY: a kernel is found only on processors with these features.
            unsafe {
                match sums.len() {
                    $($count => rows::<$count>(lanes, left, right, sums, at),)*
                    rows => unreachable!("a tile of {rows} rows"),
                }
            }
        }
    };
}
