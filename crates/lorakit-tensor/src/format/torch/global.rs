//! The allow-list: every name that a pickle may mention, and what it stands for here.

use crate::DType;

/// A permitted name. It is a label with no Python object behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// A dict.
    OrderedDict,
    /// `(storage, offset, size, stride, requires_grad, hooks, [metadata])`
    RebuildTensor,
    /// `(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])`
    RebuildTensorV3,
    /// `(tensor, requires_grad, hooks)`
    RebuildParameter,
    /// A storage whose elements have this type.
    TypedStorage(DType),
    /// A storage of bytes.
    UntypedStorage,
    /// An element type.
    DType(DType),
}

const ALLOWED: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildTensorV3),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "DoubleStorage", Global::TypedStorage(DType::F64)),
    ("torch", "FloatStorage", Global::TypedStorage(DType::F32)),
    ("torch", "HalfStorage", Global::TypedStorage(DType::F16)),
    ("torch", "BFloat16Storage", Global::TypedStorage(DType::BF16)),
    ("torch", "LongStorage", Global::TypedStorage(DType::I64)),
    ("torch", "IntStorage", Global::TypedStorage(DType::I32)),
    ("torch", "ShortStorage", Global::TypedStorage(DType::I16)),
    ("torch", "CharStorage", Global::TypedStorage(DType::I8)),
    ("torch", "ByteStorage", Global::TypedStorage(DType::U8)),
    ("torch", "BoolStorage", Global::TypedStorage(DType::BOOL)),
    ("torch", "ComplexFloatStorage", Global::TypedStorage(DType::C64)),
    ("torch.storage", "UntypedStorage", Global::UntypedStorage),
    ("torch", "float64", Global::DType(DType::F64)),
    ("torch", "float32", Global::DType(DType::F32)),
    ("torch", "float16", Global::DType(DType::F16)),
    ("torch", "bfloat16", Global::DType(DType::BF16)),
    ("torch", "float8_e4m3fn", Global::DType(DType::F8_E4M3)),
    ("torch", "float8_e5m2", Global::DType(DType::F8_E5M2)),
    ("torch", "float8_e8m0fnu", Global::DType(DType::F8_E8M0)),
    ("torch", "float8_e4m3fnuz", Global::DType(DType::F8_E4M3FNUZ)),
    ("torch", "float8_e5m2fnuz", Global::DType(DType::F8_E5M2FNUZ)),
    ("torch", "int64", Global::DType(DType::I64)),
    ("torch", "int32", Global::DType(DType::I32)),
    ("torch", "int16", Global::DType(DType::I16)),
    ("torch", "int8", Global::DType(DType::I8)),
    ("torch", "uint64", Global::DType(DType::U64)),
    ("torch", "uint32", Global::DType(DType::U32)),
    ("torch", "uint16", Global::DType(DType::U16)),
    ("torch", "uint8", Global::DType(DType::U8)),
    ("torch", "bool", Global::DType(DType::BOOL)),
    ("torch", "complex64", Global::DType(DType::C64)),
];

/// What `module.name` stands for, if it is permitted. Both must match exactly.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    ALLOWED.iter().find(|(m, n, _)| *m == module && *n == name).map(|&(_, _, global)| global)
}

/// The permitted name of `global`, for messages.
pub(super) fn name(global: Global) -> String {
    let row = ALLOWED.iter().find(|(_, _, g)| *g == global);
    row.map(|(module, name, _)| format!("{module}.{name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable_and_unique() {
        for &(module, name, global) in ALLOWED {
            assert_eq!(find(module, name), Some(global));
            assert_eq!(super::name(global), format!("{module}.{name}"));
        }
        assert_eq!(find("torch", "load"), None);
        assert_eq!(find("Torch", "float32"), None);
    }
}
