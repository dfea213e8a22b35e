//! The pattern of all header views: an array reference of the fixed part, fields at fixed offsets.

/// The `N` bytes at `offset`, if they are there.
#[inline(always)]
pub fn chunk_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<&[u8; N]> {
    bytes.get(offset..)?.first_chunk()
}

/// The `N` bytes at `offset`, writable, if they are there.
#[inline(always)]
pub fn chunk_at_mut<const N: usize>(bytes: &mut [u8], offset: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(offset..)?.first_chunk_mut()
}

/// Defines a view: the length is checked once when it is made, so that no field access can fail.
macro_rules! view {
    (
        $(#[$doc:meta])*
        $name:ident[$len:literal] {
            $($(#[$field_doc:meta])* $field:ident, $set:ident: $ty:tt @ $at:literal;)*
        }
    ) => {
        /// Length of the fixed header in bytes.
        pub const LEN: usize = $len;

        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<B>(B);

        impl<'a> $name<&'a [u8; LEN]> {
            /// The header at the start of `bytes`; `None` if they are too short for it.
            #[inline(always)]
            pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
                Self::at(bytes, 0)
            }

            /// The header at `offset`; `None` if it does not fit.
            #[inline(always)]
            pub fn at(bytes: &'a [u8], offset: usize) -> Option<Self> {
                $crate::view::chunk_at(bytes, offset).map(Self)
            }
        }

        impl<'a> $name<&'a mut [u8; LEN]> {
            /// The header at the start of `bytes`, writable; `None` if they are too short for it.
            #[inline(always)]
            pub fn new_checked_mut(bytes: &'a mut [u8]) -> Option<Self> {
                Self::at_mut(bytes, 0)
            }

            /// The header at `offset`, writable; `None` if it does not fit.
            #[inline(always)]
            pub fn at_mut(bytes: &'a mut [u8], offset: usize) -> Option<Self> {
                $crate::view::chunk_at_mut(bytes, offset).map(Self)
            }
        }

        impl<B: std::ops::Deref<Target = [u8; LEN]>> $name<B> {
            /// The bytes of the fixed header.
            #[inline(always)]
            pub fn as_bytes(&self) -> &[u8; LEN] {
                &self.0
            }

            $(
                $(#[$field_doc])*
                #[inline(always)]
                pub fn $field(&self) -> field!(type $ty) {
                    let bytes: &[u8; LEN] = &self.0;
                    field!(get $ty, bytes, $at)
                }
            )*
        }

        impl<B: std::ops::DerefMut<Target = [u8; LEN]>> $name<B> {
            $(
                /// Writes what the getter of the field reads.
                #[inline(always)]
                pub fn $set(&mut self, value: field!(type $ty)) {
                    let bytes: &mut [u8; LEN] = &mut self.0;
                    field!(set $ty, bytes, $at, value)
                }
            )*
        }
    };
}

/// How a field of a type is read and written in an array at a constant offset.
macro_rules! field {
    (type mac) => {
        types::MacAddr
    };
    (type $ty:tt) => {
        $ty
    };
    (get u8, $bytes:expr, $at:literal) => {
        $bytes[$at]
    };
    (get u16, $bytes:expr, $at:literal) => {
        u16::from_be_bytes([$bytes[$at], $bytes[$at + 1]])
    };
    (get u32, $bytes:expr, $at:literal) => {
        u32::from_be_bytes([$bytes[$at], $bytes[$at + 1], $bytes[$at + 2], $bytes[$at + 3]])
    };
    (get u128, $bytes:expr, $at:literal) => {
        // By one load: byte by byte the compiler does not see it.
        $bytes[$at..].first_chunk::<16>().map_or(0, |field| u128::from_be_bytes(*field))
    };
    (get mac, $bytes:expr, $at:literal) => {
        types::MacAddr([
            $bytes[$at],
            $bytes[$at + 1],
            $bytes[$at + 2],
            $bytes[$at + 3],
            $bytes[$at + 4],
            $bytes[$at + 5],
        ])
    };
    (set u8, $bytes:expr, $at:literal, $value:expr) => {
        $bytes[$at] = $value
    };
    (set u16, $bytes:expr, $at:literal, $value:expr) => {
        [$bytes[$at], $bytes[$at + 1]] = $value.to_be_bytes()
    };
    (set u32, $bytes:expr, $at:literal, $value:expr) => {
        [$bytes[$at], $bytes[$at + 1], $bytes[$at + 2], $bytes[$at + 3]] = $value.to_be_bytes()
    };
    (set u128, $bytes:expr, $at:literal, $value:expr) => {
        if let Some(field) = $bytes[$at..].first_chunk_mut::<16>() {
            *field = $value.to_be_bytes();
        }
    };
    (set mac, $bytes:expr, $at:literal, $value:expr) => {
        [
            $bytes[$at],
            $bytes[$at + 1],
            $bytes[$at + 2],
            $bytes[$at + 3],
            $bytes[$at + 4],
            $bytes[$at + 5],
        ] = $value.0
    };
}

/// The tests that every view must pass: round trip of each field over 0xa5, no view of less.
#[cfg(test)]
macro_rules! view_tests {
    ($name:ident { $($field:ident, $set:ident = $value:expr;)* }) => {
        #[test]
        fn fields_round_trip_and_touch_nothing_else() {
            $({
                let mut bytes = [0xa5u8; LEN + 2];
                $name::at_mut(&mut bytes, 1).unwrap().$set($value);
                assert_eq!($name::at(&bytes, 1).unwrap().$field(), $value);
                let width = std::mem::size_of_val(&$value);
                let changed: Vec<usize> =
                    (0..bytes.len()).filter(|&index| bytes[index] != 0xa5).collect();
                let span = changed.last().unwrap() - changed.first().unwrap() + 1;
                assert!(span <= width, "{}: {changed:?}", stringify!($field));
                assert_eq!((bytes[0], bytes[LEN + 1]), (0xa5, 0xa5));
            })*
        }

        #[test]
        fn no_view_of_a_truncated_header() {
            let mut bytes = [0u8; LEN];
            for len in 0..LEN {
                assert!($name::new_checked(&bytes[..len]).is_none());
                assert!($name::new_checked_mut(&mut bytes[..len]).is_none());
            }
            assert!($name::new_checked(&bytes).is_some());
            assert!($name::at(&bytes, usize::MAX).is_none());
            assert!($name::at_mut(&mut bytes, 1).is_none());
        }
    };
}
