//! What can be handed to `intern`.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::table::{Internable, NewNode, Seat};

/// A value that becomes an entry of an `Interner<T>` if no equal one is there.
///
/// | `T` | accepted |
/// |---|---|
/// | a sized type | `T` by value, `&T` where `T: Clone` |
/// | `str` | `&str`, `&&str`, `&String`, `String`, `Box<str>`, `Rc<str>`, `Arc<str>`, `Cow<str>`, `&Cow<str>` |
/// | `[U]` | `&[U]`, `&[U; N]`, `&Vec<U>` where `U: Clone`; `Vec<U>`, `Box<[U]>`, `[U; N]` by moving |
/// | `Path` | `&Path`, `&str`, `&PathBuf`, `PathBuf`, `Box<Path>`, `Arc<Path>`, `Cow<Path>` |
/// | `OsStr` | `&OsStr`, `&str`, `&OsString`, `OsString`, `Box<OsStr>`, `Arc<OsStr>`, `Cow<OsStr>` |
/// | `CStr` | `&CStr`, `&CString`, `CString`, `Box<CStr>`, `Arc<CStr>`, `Cow<CStr>` |
///
/// On a hit nothing is copied, cloned or allocated. On a miss the contents are copied, cloned or moved
/// once into the entry; an owned buffer that was handed in is freed, never kept.
///
/// The trait is sealed. Where a value is expensive to build, use
/// [`Interner::intern_with`](crate::Interner::intern_with).
///
/// # Examples
///
/// ```
/// use hapax::{Intern, Interned, Interner};
///
/// fn intern_pair<Q: Intern<str>>(names: &Interner<str>, pair: [Q; 2]) -> [Interned<str>; 2] {
///     pair.map(|name| names.intern(name))
/// }
///
/// let names = Interner::<str>::new();
/// let [a, b] = intern_pair(&names, ["alpha", "beta"]);
/// let [c, _] = intern_pair(&names, [String::from("alpha"), String::from("gamma")]);
/// assert_eq!(a, c);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be interned as `{T}`",
    note = "see `hapax::Intern` for what is accepted; `intern_with` takes anything that is equivalent"
)]
pub trait Intern<T: ?Sized + Internable>: sealed::IntoNode<T> {
    /// The value that is looked up.
    fn as_value(&self) -> &T;
}

pub(crate) mod sealed {
    use super::{Internable, NewNode, Seat};

    pub trait IntoNode<T: ?Sized + Internable> {
        /// Whether making the node runs user code, rather than only moving or copying bytes.
        const RUNS_USER_CODE: bool;

        #[doc(hidden)]
        #[allow(private_interfaces, reason = "sealed")]
        fn into_node(self, seat: Seat) -> NewNode<T>;
    }
}

use sealed::IntoNode;

/// Implements both traits for one form of a value.
macro_rules! intern {
    (
        $user_code:literal, [$($generics:tt)*] $form:ty => $type:ty,
        |$value:ident| $as_value:expr, |$seat:ident, $this:ident| $node:expr
    ) => {
        impl<$($generics)*> IntoNode<$type> for $form {
            const RUNS_USER_CODE: bool = $user_code;

            #[inline]
            #[allow(private_interfaces, reason = "sealed")]
            fn into_node(self, $seat: Seat) -> NewNode<$type> {
                let $this = self;
                $node
            }
        }

        impl<$($generics)*> Intern<$type> for $form {
            #[inline]
            fn as_value(&self) -> &$type {
                let $value = self;
                $as_value
            }
        }
    };
}

intern!(false, [T] T => T, |value| value, |seat, value| NewNode::sized(seat, value));
intern!(true, ['a, T: Clone] &'a T => T, |value| value, |seat, value| NewNode::sized(seat, value.clone()));

intern!(true, ['a, U: Clone] &'a [U] => [U], |value| value, |seat, value| NewNode::cloned(seat, value));
intern!(true, ['a, U: Clone] &'a Vec<U> => [U], |value| value, |seat, value| NewNode::cloned(seat, value));
intern!(true, ['a, U: Clone, const N: usize] &'a [U; N] => [U], |value| &value[..], |seat, value| {
    NewNode::cloned(seat, value)
});
intern!(false, [U] Vec<U> => [U], |value| value, |seat, value| NewNode::moved(seat, value));
intern!(false, [U] Box<[U]> => [U], |value| value, |seat, value| NewNode::moved(seat, value.into_vec()));
intern!(false, [U, const N: usize] [U; N] => [U], |value| value, |seat, value| NewNode::array(seat, value));

/// All forms of a string-like type, which are copied.
macro_rules! intern_bytes {
    ($($type:ty: $owned:ty),*) => {$(
        intern!(false, ['a] &'a $type => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, value)
        });
        intern!(false, ['a] &'a $owned => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, value)
        });
        intern!(false, [] $owned => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, &value)
        });
        intern!(false, [] Box<$type> => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, &value)
        });
        intern!(false, [] Rc<$type> => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, &value)
        });
        intern!(false, [] Arc<$type> => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, &value)
        });
        intern!(false, ['a] Cow<'a, $type> => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, &value)
        });
        intern!(false, ['a, 'b] &'b Cow<'a, $type> => $type, |value| value, |seat, value| {
            NewNode::<$type>::copied(seat, value)
        });
    )*};
}

intern!(false, ['a, 'b] &'b &'a str => str, |value| value, |seat, value| {
    NewNode::<str>::copied(seat, value)
});
intern!(false, ['a] &'a str => Path, |value| Path::new(*value), |seat, value| {
    NewNode::<Path>::copied(seat, value.as_ref())
});
intern!(false, ['a] &'a str => OsStr, |value| OsStr::new(*value), |seat, value| {
    NewNode::<OsStr>::copied(seat, value.as_ref())
});

intern_bytes!(str: String, Path: PathBuf, OsStr: OsString, CStr: CString);

// A handle of one interner is looked up in another.
impl<'a, T: ?Sized + Internable> IntoNode<T> for &'a crate::Interned<T>
where
    &'a T: IntoNode<T>,
{
    const RUNS_USER_CODE: bool = <&'a T as IntoNode<T>>::RUNS_USER_CODE;

    #[inline]
    #[allow(private_interfaces, reason = "sealed")]
    fn into_node(self, seat: Seat) -> NewNode<T> {
        IntoNode::<T>::into_node(&**self, seat)
    }
}

impl<'a, T: ?Sized + Internable> Intern<T> for &'a crate::Interned<T>
where
    &'a T: IntoNode<T>,
{
    #[inline]
    fn as_value(&self) -> &T {
        self
    }
}
