//! How operations are declared: once, for the router, for the client and for the document.

/// Declares all operations once: for the router, for the client and for the document.
macro_rules! operations {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $function:ident = $method:ident $path:literal $tag:literal
            { $($described:tt)* }
    )*) => {
        /// A method and a path of the API. The daemon's router matches on it, so that it has all.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The HTTP method in lower case.
            pub const fn method(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($method),)*
                }
            }

            /// The path, with `{name}` where something is named.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }
        }

        mod described {
            #![expect(dead_code, reason = "the document only is made from these")]
            use super::*;

            $(
                $(#[doc = $doc])+
                #[utoipa::path($method, path = $path, tag = $tag, $($described)*)]
                pub(super) fn $function() {}
            )*
        }

        /// The document's skeleton; the rest comes from the operations and their types.
        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "dpnat control API",
                description = "HTTP/1.1 with JSON on the daemon's Unix socket, by default \
                               /run/dpnat/dpnat.sock. Every refusal has an ErrorBody.",
            ),
            paths($(described::$function),*),
        )]
        struct Document;
    };
}

pub(crate) use operations;
