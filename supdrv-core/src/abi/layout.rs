//! Describing C: one definition gives the Rust type, the compile-time proof of its layout, and a table for tests and for the
//! header generator.
//!
//! Tables hold both pointer widths, whatever this host has: offsets are written down, sizes follow from the types ([`CSize`]).
//! What the compiler can check, it checks: a build for either width fails if a type differs from its description.

use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};

/// Index of this host's width in the tables: 0 for 64-bit, 1 for 32-bit.
pub const WIDTH: usize = if cfg!(target_pointer_width = "64") { 0 } else { 1 };

/// Bytes of padding, by width.
pub(super) const fn pad(bytes64: usize, bytes32: usize) -> usize {
    [bytes64, bytes32][WIDTH]
}

/// A type that C structures are made of.
pub trait CSize {
    /// Its size in bytes on 64-bit and on 32-bit hosts.
    const BYTES: [usize; 2];
}

macro_rules! c_size {
    ($($ty:ty: [$size64:literal, $size32:literal];)*) => {
        $(impl CSize for $ty {
            const BYTES: [usize; 2] = [$size64, $size32];
        })*
    };
}

c_size! {
    u8: [1, 1];
    AtomicU8: [1, 1];
    u16: [2, 2];
    i16: [2, 2];
    AtomicU16: [2, 2];
    u32: [4, 4];
    i32: [4, 4];
    AtomicU32: [4, 4];
    u64: [8, 8];
    AtomicU64: [8, 8];
    usize: [8, 4];
    AtomicUsize: [8, 4];
}

impl<T> CSize for AtomicPtr<T> {
    const BYTES: [usize; 2] = [8, 4];
}

impl<T: CSize, const N: usize> CSize for [T; N] {
    const BYTES: [usize; 2] = [T::BYTES[0] * N, T::BYTES[1] * N];
}

/// The offset of a member where C has none of that name at a pointer width.
pub const ABSENT: usize = usize::MAX;

/// Where a C member is.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in C, relative to [`StructLayout::prefix`]; `^` begins a name that isn't.
    pub c_name: &'static str,
    /// Byte offset on 64-bit and on 32-bit hosts; [`ABSENT`] where there is none.
    pub offset: [usize; 2],
    /// Size in bytes on 64-bit and on 32-bit hosts.
    pub size: [usize; 2],
    /// The Rust type, as it is written in the definition.
    pub rust_type: &'static str,
}

/// Layout of a C structure, or of one view of it.
#[derive(Clone, Copy, Debug)]
pub struct StructLayout {
    /// The Rust type.
    pub rust_name: &'static str,
    /// The C structure.
    pub c_name: &'static str,
    /// The part of it that the fields are in, for instance `u.In.`; empty for all of it.
    pub prefix: &'static str,
    /// Size of the Rust type in bytes on 64-bit and on 32-bit hosts.
    pub size: [usize; 2],
    /// The members.
    pub fields: &'static [Field],
}

/// A C member that no Rust type has as a member of its own: another name for bytes of one, or the first element of the variable
/// part behind one.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The C structure.
    pub c_struct: &'static str,
    /// The member.
    pub field: Field,
}

/// A constant with a name in C.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// The name.
    pub c_name: &'static str,
    /// The value on 64-bit and on 32-bit hosts; negative ones are sign-extended.
    pub value: [u64; 2],
}

/// Defines a structure with the C layout `[64-bit, 32-bit]` of itself and of its members. Members without a C name are padding.
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
        $(
        static_assertions::const_assert_eq!(
            size_of::<$ty>(),
            <$ty as $crate::abi::layout::CSize>::BYTES[$crate::abi::layout::WIDTH]
        );
        $(static_assertions::const_assert_eq!(
            memoffset::offset_of!($name, $field),
            [$off64, $off32][$crate::abi::layout::WIDTH]
        );)?)*

        impl $crate::abi::layout::CSize for $name {
            const BYTES: [usize; 2] = [$size64, $size32];
        }

        impl $name {
            /// The C layout.
            pub const LAYOUT: $crate::abi::layout::StructLayout = $crate::abi::layout::StructLayout {
                rust_name: stringify!($name),
                c_name: $c,
                prefix: $prefix,
                size: [$size64, $size32],
                fields: &[$($($crate::abi::layout::Field {
                    c_name: $cf,
                    offset: [$off64, $off32],
                    size: <$ty as $crate::abi::layout::CSize>::BYTES,
                    rust_type: stringify!($ty),
                },)?)*],
            };
        }
    };
}
pub(super) use layout_struct;

/// Describes C members that have no Rust member of their own.
macro_rules! parts {
    ($($c:literal { $($path:literal: $ty:ty [$off64:expr, $off32:expr],)* })*) => {
        /// C members of this module's structures that have no Rust member of their own.
        pub const PARTS: &[$crate::abi::layout::Part] = &[$($($crate::abi::layout::Part {
            c_struct: $c,
            field: $crate::abi::layout::Field {
                c_name: $path,
                offset: [$off64, $off32],
                size: <$ty as $crate::abi::layout::CSize>::BYTES,
                rust_type: stringify!($ty),
            },
        },)*)*];
    };
}
pub(super) use parts;

/// Defines constants with their names in C, and the table of them.
macro_rules! c_constants {
    ($($(#[$attr:meta])* $c:literal $name:ident: $ty:ty = $value:expr;)*) => {
        $(
        #[doc(alias = $c)]
        $(#[$attr])*
        pub const $name: $ty = $value;
        )*

        /// The constants of this module that C has too.
        pub const CONSTANTS: &[$crate::abi::layout::Constant] = &[$($crate::abi::layout::Constant {
            c_name: $c,
            value: [$name as u64, $name as u64],
        },)*];
    };
}
pub(super) use c_constants;
