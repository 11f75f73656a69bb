//! Describing C structures: one definition gives the Rust type, the compile-time proof of its layout, and a table for tests
//! and for the header generator.

/// Where a C member is.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in C, relative to [`StructLayout::prefix`].
    pub c_name: &'static str,
    /// Byte offset on 64-bit and on 32-bit hosts.
    pub offset: [usize; 2],
    /// Size in bytes on this host.
    pub size: usize,
}

/// Layout of a C structure, or of one view of it.
#[derive(Clone, Copy, Debug)]
pub struct StructLayout {
    /// The C structure.
    pub c_name: &'static str,
    /// The part of it that the fields are in, for instance `u.In.`; empty for all of it.
    pub prefix: &'static str,
    /// Size of the Rust type in bytes on 64-bit and on 32-bit hosts.
    pub size: [usize; 2],
    /// The members.
    pub fields: &'static [Field],
}

/// Index of this host's width in the tables: 0 for 64-bit, 1 for 32-bit.
pub const WIDTH: usize = if cfg!(target_pointer_width = "64") { 0 } else { 1 };

/// Bytes of padding, by width.
pub(super) const fn pad(bytes64: usize, bytes32: usize) -> usize {
    [bytes64, bytes32][WIDTH]
}

/// Defines a structure with the C layout `[64-bit, 32-bit]` of itself and of its members. Members without a C name are padding
/// or parts that have a layout of their own.
macro_rules! layout_struct {
    ($(#[$attr:meta])* $name:ident: $c:literal $prefix:literal [$size64:literal, $size32:literal] {
        $($(#[$fattr:meta])* $field:ident: $ty:ty $(= $cf:literal [$off64:literal, $off32:literal])?,)*
    }) => {
        #[doc(alias = $c)]
        $(#[$attr])*
        pub struct $name {
            $($(#[$fattr])* pub $field: $ty,)*
        }

        static_assertions::const_assert_eq!(
            size_of::<$name>(),
            [$size64, $size32][$crate::abi::layout::WIDTH]
        );
        $($(static_assertions::const_assert_eq!(
            memoffset::offset_of!($name, $field),
            [$off64, $off32][$crate::abi::layout::WIDTH]
        );)?)*

        impl $name {
            /// The C layout.
            pub const LAYOUT: $crate::abi::layout::StructLayout = $crate::abi::layout::StructLayout {
                c_name: $c,
                prefix: $prefix,
                size: [$size64, $size32],
                fields: &[$($($crate::abi::layout::Field {
                    c_name: $cf,
                    offset: [$off64, $off32],
                    size: size_of::<$ty>(),
                },)?)*],
            };
        }
    };
}
pub(super) use layout_struct;
