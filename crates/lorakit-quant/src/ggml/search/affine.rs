//! Sub-blocks as `scale · code - min`, codes from 0: least squares from several starts.

use super::{lanes, nearest, nearest_within};

/// How to search.
pub(in crate::ggml) struct Search {
    /// The largest code.
    pub max_code: f32,
    /// Candidate `s` of `0..=last` spreads the values over `max_code + first + s · step` codes.
    pub first: f32,
    pub step: f32,
    pub last: i32,
    /// Whether errors count by their size, not by their square.
    pub absolute: bool,
    /// Whether a code that is far out of range becomes the nearest in range, instead of wrapping.
    pub saturating: bool,
}

/// The fit of `L` sub-blocks of `N` values.
pub(in crate::ggml) struct Fit<const N: usize, const L: usize> {
    pub scale: [f32; L],
    pub min: [f32; L],
    pub codes: [[u8; L]; N],
    /// The sum of the weights.
    pub weight: [f32; L],
}

impl Search {
    /// Fits the values `x`, each error counted with its weight.
    #[inline(always)]
    pub(in crate::ggml) fn fit<const N: usize, const L: usize>(
        &self,
        x: &[[f32; L]; N],
        w: &[[f32; L]; N],
    ) -> Fit<N, L> {
        let (mut low, mut high) = (x[0], x[0]);
        let (mut sum_w, mut sum_wx): (_, [f32; L]) = (w[0], lanes(|i| w[0][i] * x[0][i]));
        for (x, w) in x.iter().zip(w).skip(1) {
            low = lanes(|i| if x[i] < low[i] { x[i] } else { low[i] });
            high = lanes(|i| if x[i] > high[i] { x[i] } else { high[i] });
            sum_w = lanes(|i| sum_w[i] + w[i]);
            sum_wx = lanes(|i| sum_wx[i] + w[i] * x[i]);
        }
        // The value of code 0, never positive. A better fit moves it, and so the candidates that follow.
        let start: [f32; L] = lanes(|i| if low[i] > 0.0 { 0.0 } else { low[i] });
        let mut base = start;

        let inverse: [f32; L] = lanes(|i| self.max_code / (high[i] - base[i]));
        let mut scale: [f32; L] = lanes(|i| 1.0 / inverse[i]);
        let mut best = [0.0f32; L];
        for (x, w) in x.iter().zip(w) {
            best = lanes(|i| {
                let code = self.wrapping(inverse[i] * (x[i] - base[i]));
                best[i] + w[i] * self.error(scale[i] * code + base[i] - x[i])
            });
        }
        // What produces the codes of the best fit.
        let (mut code_inverse, mut code_base): ([f32; L], _) = (lanes(|i| self.usable(inverse[i])), base);

        let mut codes = [[0.0; L]; N];
        for s in 0..=self.last {
            let spread = self.first + self.step * s as f32 + self.max_code;
            let inverse: [f32; L] = lanes(|i| spread / (high[i] - base[i]));
            let (sum_l, sum_ll, sum_lx) = if self.saturating || in_range(&inverse, &base, &low, &high) {
                sums(x, w, &mut codes, |x, i| self.saturating(inverse[i] * (x - base[i])))
            } else {
                sums(x, w, &mut codes, |x, i| self.wrapping(inverse[i] * (x - base[i])))
            };

            let determinant: [f32; L] = lanes(|i| sum_w[i] * sum_ll[i] - sum_l[i] * sum_l[i]);
            let free_base: [f32; L] =
                lanes(|i| (sum_ll[i] * sum_wx[i] - sum_l[i] * sum_lx[i]) / determinant[i]);
            let new_base: [f32; L] = lanes(|i| if free_base[i] > 0.0 { 0.0 } else { free_base[i] });
            let new_scale: [f32; L] = lanes(|i| {
                let free = (sum_w[i] * sum_lx[i] - sum_wx[i] * sum_l[i]) / determinant[i];
                let through_zero = sum_lx[i] / sum_ll[i];
                if free_base[i] > 0.0 { through_zero } else { free }
            });

            let mut error = [0.0f32; L];
            for ((x, w), code) in x.iter().zip(w).zip(&codes) {
                error = lanes(|i| error[i] + w[i] * self.error(new_scale[i] * code[i] + new_base[i] - x[i]));
            }

            let better: [bool; L] = lanes(|i| (determinant[i] > 0.0) & (error[i] < best[i]));
            best = select(&better, &error, &best);
            code_inverse = select(&better, &inverse, &code_inverse);
            code_base = select(&better, &base, &code_base);
            scale = select(&better, &new_scale, &scale);
            base = select(&better, &new_base, &base);
        }

        let constant: [bool; L] =
            lanes(|i| if self.saturating { high[i] <= start[i] } else { high[i] == start[i] });
        scale = select(&constant, &[0.0; L], &scale);
        base = select(&constant, &start, &base);
        let mut final_codes = [[0; L]; N];
        for (codes, x) in final_codes.iter_mut().zip(x) {
            *codes = lanes(|i| {
                let position = code_inverse[i] * (x[i] - code_base[i]);
                let code = if self.saturating { self.saturating(position) } else { self.wrapping(position) };
                if constant[i] { 0 } else { code as u8 }
            });
        }
        Fit { scale, min: lanes(|i| -base[i]), codes: final_codes, weight: sum_w }
    }

    #[inline(always)]
    fn error(&self, difference: f32) -> f32 {
        if self.absolute { difference.abs() } else { difference * difference }
    }

    #[inline(always)]
    fn wrapping(&self, position: f32) -> f32 {
        nearest(position).max(0).min(self.max_code as i32) as f32
    }

    #[inline(always)]
    fn saturating(&self, position: f32) -> f32 {
        nearest_within(position, 0.0, self.max_code)
    }

    /// The first codes wrap in any case: an infinite inverse makes all of them 0, as 0 does.
    #[inline(always)]
    fn usable(&self, inverse: f32) -> f32 {
        if inverse.is_infinite() { 0.0 } else { inverse }
    }
}

/// Whether no position wraps. Positions rise with the value, so the outermost two decide.
#[inline(always)]
fn in_range<const L: usize>(inverse: &[f32; L], base: &[f32; L], low: &[f32; L], high: &[f32; L]) -> bool {
    const LIMIT: f32 = 4_194_303.0;
    let mut in_range = true;
    for i in 0..L {
        in_range &= (inverse[i] * (low[i] - base[i])).abs() < LIMIT;
        in_range &= (inverse[i] * (high[i] - base[i])).abs() < LIMIT;
    }
    in_range
}

/// The weighted sums of the codes, of their squares, and of their products with the values.
#[inline(always)]
fn sums<const N: usize, const L: usize>(
    x: &[[f32; L]; N],
    w: &[[f32; L]; N],
    codes: &mut [[f32; L]; N],
    code: impl Fn(f32, usize) -> f32,
) -> ([f32; L], [f32; L], [f32; L]) {
    let (mut sum_l, mut sum_ll, mut sum_lx) = ([0.0; L], [0.0; L], [0.0; L]);
    for ((x, w), l) in x.iter().zip(w).zip(codes) {
        *l = lanes(|i| code(x[i], i));
        let wl: [f32; L] = lanes(|i| w[i] * l[i]);
        sum_l = lanes(|i| sum_l[i] + wl[i]);
        sum_ll = lanes(|i| sum_ll[i] + wl[i] * l[i]);
        sum_lx = lanes(|i| sum_lx[i] + wl[i] * x[i]);
    }
    (sum_l, sum_ll, sum_lx)
}

#[inline(always)]
fn select<const L: usize>(which: &[bool; L], yes: &[f32; L], no: &[f32; L]) -> [f32; L] {
    lanes(|i| if which[i] { yes[i] } else { no[i] })
}
