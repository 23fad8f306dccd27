//! One interner per type, for the whole program.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Intern, Internable, Interned, Interner};

/// Types that have one interner for the whole program.
///
/// `str`, `[u8]`, [`OsStr`] and [`Path`] do; [`global_interner!`](crate::global_interner) gives one to a
/// type of yours.
///
/// # Examples
///
/// ```
/// use hapax::{Global, Interned};
///
/// let alpha = Interned::<str>::new("alpha");
/// assert_eq!(<str as Global>::interner().get("alpha"), Some(alpha));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no global interner",
    note = "write `hapax::global_interner!({Self});`, or intern in an `Interner<{Self}>` of your own"
)]
pub trait Global: Internable + Hash + Eq + 'static {
    /// The interner.
    ///
    /// # Examples
    ///
    /// See [`Global`].
    fn interner() -> &'static Interner<Self>;
}

/// Gives a type of your crate one static interner: `Point` or `Pair<u32>`, but not `Pair<T>`.
///
/// Then [`Interned::new`] and `From` intern there. A slice or tuple isn't of your crate, whatever it contains:
/// give it a `static` [`Interner`] of its own.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, global_interner};
///
/// #[derive(Debug, PartialEq, Eq, Hash)]
/// struct Point { x: i32, y: i32 }
///
/// global_interner!(Point);
///
/// let a = Interned::new(Point { x: 1, y: 2 });
/// let b: Interned<Point> = Point { x: 1, y: 2 }.into();
/// assert_eq!(a, b);
/// ```
///
/// The type must be comparable:
///
/// ```compile_fail
/// struct Opaque;
/// hapax::global_interner!(Opaque);
/// ```
#[macro_export]
macro_rules! global_interner {
    ($type:ty) => {
        impl $crate::Global for $type {
            fn interner() -> &'static $crate::Interner<Self> {
                static INTERNER: $crate::Interner<$type> = $crate::Interner::new();
                &INTERNER
            }
        }
    };
}

global_interner!(str);
global_interner!([u8]);
global_interner!(OsStr);
global_interner!(Path);

impl<T: ?Sized + Global> Interned<T> {
    /// The one instance of a value in its type's [global](Global) interner.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::Interned;
    /// assert_eq!(Interned::<str>::new("alpha"), Interned::<str>::new(String::from("alpha")));
    /// ```
    #[inline]
    pub fn new<Q: Intern<T>>(value: Q) -> Self {
        T::interner().intern(value)
    }
}

impl<T: Global> From<T> for Interned<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<'a, T: Global + Clone> From<&'a T> for Interned<T> {
    fn from(value: &'a T) -> Self {
        Self::new(value)
    }
}

macro_rules! from {
    ($($type:ty: $($form:ty),*;)*) => {$($(
        impl From<$form> for Interned<$type> {
            fn from(value: $form) -> Self {
                Self::new(value)
            }
        }
    )*)*};
}

from! {
    str: &str, String, Box<str>, Cow<'_, str>;
    [u8]: &[u8], Vec<u8>, Box<[u8]>;
    OsStr: &OsStr, OsString, Box<OsStr>, Cow<'_, OsStr>;
    Path: &Path, PathBuf, Box<Path>, Cow<'_, Path>;
}

impl<T: Global + Default> Default for Interned<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl Default for Interned<str> {
    fn default() -> Self {
        Self::new("")
    }
}

impl FromStr for Interned<str> {
    type Err = Infallible;

    fn from_str(value: &str) -> Result<Self, Infallible> {
        Ok(Self::new(value))
    }
}
