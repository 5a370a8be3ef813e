//! The order of tensors in a file that the tool wrote.

use lorakit_tensor::TensorInfo;

/// Positions of `tensors` in the order in which the tool visits and writes them: those outside layers first, then layer
/// by layer, by name within each.
pub fn file_order(tensors: &[TensorInfo]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(&tensors[i].name), tensors[i].name.as_bytes()));
    order
}

/// The number in `blk.{number}…`.
pub(super) fn layer(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("blk.")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorakit_tensor::DType;

    #[test]
    fn layers_are_ordered_by_number() {
        let names = ["blk.10.b", "blk.2.b", "token_embd.weight", "blk.2.a", "output.weight", "blk.x"];
        let tensors =
            names.map(|name| TensorInfo { name: name.to_string(), dtype: DType::F32, shape: vec![1] });
        let ordered: Vec<_> = file_order(&tensors).into_iter().map(|i| names[i]).collect();
        assert_eq!(
            ordered,
            ["blk.x", "output.weight", "token_embd.weight", "blk.2.a", "blk.2.b", "blk.10.b"]
        );
    }
}
