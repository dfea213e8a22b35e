//! Types for which memory full of zeroes is a value.

/// A type whose value may be all zero bytes, and which needs no drop.
///
/// [`zeroable_struct!`](crate::zeroable_struct) and [`zeroable_enum!`](crate::zeroable_enum)
/// declare such types from crates that forbid `unsafe`.
///
/// # Safety
/// All bytes zero must be a valid value.
pub unsafe trait Zeroable: Copy + 'static {}

macro_rules! integers {
    ($($name:ty)*) => {
        $(
            // SAFETY: every bit pattern of an integer is a value.
            unsafe impl Zeroable for $name {}
        )*
    };
}

integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

// SAFETY: zero bytes are a value of every element, and arrays have no padding of their own.
unsafe impl<T: Zeroable, const N: usize> Zeroable for [T; N] {}

/// The value whose bytes are all zero.
#[inline(always)]
pub fn zero<T: Zeroable>() -> T {
    // SAFETY: `Zeroable` promises that all bytes zero are a value.
    unsafe { std::mem::zeroed() }
}

/// Declares a struct with named fields and makes it [`Zeroable`], which it may be only if each of
/// its fields is. It may have one type parameter, which has to be zeroable itself.
#[macro_export]
macro_rules! zeroable_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(<$param:ident = $default:ty>)? {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name $(<$param = $default>)? {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        const _: () = {
            const fn is_zeroable<T: $crate::Zeroable>() {}
            #[allow(dead_code, reason = "compiling it is the check")]
            const fn each_field_is_zeroable $(<$param: $crate::Zeroable>)? () {
                $(is_zeroable::<$type>();)*
            }
        };

        // SAFETY: zero bytes are a value of every field, as checked above.
        unsafe impl $(<$param: $crate::Zeroable>)? $crate::Zeroable for $name $(<$param>)? {}
    };
}

/// Declares a `repr(u8)` enum without fields and makes it [`Zeroable`]: the first variant is 0.
#[macro_export]
macro_rules! zeroable_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $(#[$first_meta:meta])* $first:ident $(, $(#[$variant_meta:meta])* $variant:ident)* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(u8)]
        $vis enum $name {
            $(#[$first_meta])* $first = 0,
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[Self::$first $(, Self::$variant)*];
        }

        // SAFETY: zero is the number of the first variant.
        unsafe impl $crate::Zeroable for $name {}
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    zeroable_enum! {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Colour { Red, Green }
    }

    zeroable_struct! {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        struct Thing { colour: Colour, count: u64, rest: [u16; 3] }
    }

    zeroable_struct! {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        struct Of<T = u8> { it: T, count: u8 }
    }

    #[test]
    fn zero_bytes_are_the_first_variant_and_zeroes() {
        let thing: Thing = zero();
        assert_eq!(thing, Thing { colour: Colour::Red, count: 0, rest: [0; 3] });
        assert_eq!(zero::<Of<u128>>(), Of { it: 0, count: 0 });
        assert_eq!(Colour::ALL, [Colour::Red, Colour::Green]);
    }
}
