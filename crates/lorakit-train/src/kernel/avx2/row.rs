//! Products of one row.

use std::arch::x86_64::*;

use crate::kernel::row::{LANES, ROWS, RowKernel, Sums};

pub(super) const KERNEL: RowKernel = RowKernel { add, four_bit: None, packed: |_| None };

row_chains!(add: "avx2,fma", 8, 2, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
