//! A computed tensor in progress: factors that its tasks share, scales that they collect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lorakit_tensor::publish;

use super::compute::Prepared;
use super::pack::Part;
use super::recipe::{Compute, OutputTensor};
use crate::Result;

/// A computed tensor and what its tasks share, from the first task to the last.
pub(super) struct Job<'p> {
    pub(super) tensor: &'p OutputTensor,
    pub(super) compute: &'p Compute,
    prepared: Mutex<Option<Arc<Prepared<'p>>>>,
    tasks_left: AtomicUsize,
    parts: Vec<Place>,
    /// The scales of all rows, if they are needed together.
    scales: Mutex<Vec<f32>>,
}

/// Where a part of a packed tensor goes.
pub(super) struct Place {
    pub(super) part: Part,
    pub(super) file: usize,
    /// Position among the file's tensors.
    pub(super) index: usize,
    pub(super) offset: u64,
}

/// The bytes of a tensor whose length was not known when the file was laid out.
pub(super) struct Late {
    pub(super) file: usize,
    pub(super) index: usize,
    pub(super) bytes: Vec<u8>,
}

impl<'p> Job<'p> {
    pub(super) fn new(
        tensor: &'p OutputTensor,
        compute: &'p Compute,
        parts: Vec<Place>,
        tasks: usize,
    ) -> Self {
        let (prepared, scales, tasks_left) = (Mutex::default(), Mutex::default(), AtomicUsize::new(tasks));
        Job { tensor, compute, prepared, tasks_left, parts, scales }
    }

    /// The factors, loaded by the first thread to arrive.
    pub(super) fn prepared(&self) -> Result<Arc<Prepared<'p>>> {
        let mut slot = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = &*slot {
            return Ok(Arc::clone(prepared));
        }
        let info = &self.tensor.info;
        let prepared = Arc::new(Prepared::new(self.compute, &info.name, info.dtype)?);
        *slot = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Takes the scales of rows from `row` on: writes them, or keeps them until all are there.
    pub(super) fn take_scales(
        &self,
        row: usize,
        scales: &[f32],
        outputs: &[publish::OutputFile],
    ) -> Result<()> {
        let Some(packed) = self.compute.packing.as_ref().filter(|_| !scales.is_empty()) else {
            return Ok(());
        };
        let at = packed.packing.scales(row, self.compute.cols);
        if packed.packing.nested() {
            let mut all = self.scales.lock().unwrap_or_else(PoisonError::into_inner);
            all.resize(packed.packing.scales(self.compute.rows, self.compute.cols), 0.0);
            all[at..at + scales.len()].copy_from_slice(scales);
        } else if let Some(place) = self.parts.iter().find(|place| place.part == Part::Scales) {
            let offset = place.offset + packed.packing.scale_dtype().byte_len(at as u64).unwrap_or(0);
            outputs[place.file].write_at(&packed.packing.scale_bytes(scales), offset)?;
        }
        Ok(())
    }

    /// Counts a task as done. After the last one, frees the factors and writes the parts that need all scales; returns
    /// the one whose place is not known yet.
    pub(super) fn finish_task(&self, outputs: &[publish::OutputFile]) -> Result<Option<Late>> {
        if self.tasks_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(None);
        }
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(prepared) = &prepared {
            prepared.check_held()?;
        }
        let Some(packed) = &self.compute.packing else { return Ok(None) };
        let scales = std::mem::take(&mut *self.scales.lock().unwrap_or_else(PoisonError::into_inner));
        let mut late = None;
        for (part, bytes) in packed.finish(&scales, prepared.map_or(0.0, |prepared| prepared.largest())) {
            let Some(place) = self.parts.iter().find(|place| place.part == part) else { continue };
            if part == Part::State {
                late = Some(Late { file: place.file, index: place.index, bytes });
            } else {
                outputs[place.file].write_at(&bytes, place.offset)?;
            }
        }
        Ok(late)
    }
}
