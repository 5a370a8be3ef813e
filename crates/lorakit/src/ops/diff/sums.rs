//! Norms and angles of two vectors, from four sums that add up over tensors.

use std::ops::AddAssign;

/// Inner products of two vectors `a` and `b`: the values of two tensors, or two deltas.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// `<a, a>`.
    pub a: f64,
    /// `<b, b>`.
    pub b: f64,
    /// `<a, b>`.
    pub ab: f64,
    /// `<b - a, b - a>`; summed separately, since the others cancel.
    pub off: f64,
}

impl Sums {
    /// The sums of vectors with these squared norms that have nothing to do with each other.
    pub(super) fn apart(a: f64, b: f64) -> Self {
        Sums { a, b, ab: 0.0, off: a + b }
    }

    /// The sums of a vector with this squared norm and itself.
    pub(super) fn alike(norm: f64) -> Self {
        Sums { a: norm, b: norm, ab: norm, off: 0.0 }
    }

    /// The sums of `s a` and `t b`.
    pub(super) fn scaled(self, s: f64, t: f64) -> Self {
        let (a, b, ab) = (s * s * self.a, t * t * self.b, s * t * self.ab);
        let off = if s == t { s * s * self.off } else { (a + b - 2.0 * ab).max(0.0) };
        Sums { a, b, ab, off }
    }

    /// `||a||`, `||b||`.
    pub fn norms(&self) -> (f64, f64) {
        (self.a.sqrt(), self.b.sqrt())
    }

    /// `||b|| / ||a||`; `None` if `a` is zero.
    pub fn ratio(&self) -> Option<f64> {
        finite((self.b / self.a).sqrt())
    }

    /// The cosine between `a` and `b`, -1 to 1; `None` if one is zero.
    pub fn cosine(&self) -> Option<f64> {
        finite(self.ab / (self.a.sqrt() * self.b.sqrt())).map(|cosine| cosine.clamp(-1.0, 1.0))
    }

    /// `||b - a|| / ||a||`; 0 if both are zero, `None` if only `a` is.
    pub fn distance(&self) -> Option<f64> {
        if self.off == 0.0 { Some(0.0) } else { finite((self.off / self.a).sqrt()) }
    }

    /// The factor `f` for which `f a` is nearest to `b`; `None` if `a` is zero.
    pub fn factor(&self) -> Option<f64> {
        finite(self.ab / self.a)
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.a += other.a;
        self.b += other.b;
        self.ab += other.ab;
        self.off += other.off;
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
