//! Expression trees with shared subterms: each distinct term exists once, so that a tree of 2^n leaves
//! takes n + 1 nodes, and equality of whole trees is one comparison of pointers.

use std::collections::HashMap;

use hapax::{Global, Interned, global_interner};

/// A term, whose subterms are handles. `Hash` and `Eq` look at the handles only, not below them.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Expr {
    Const(u128),
    Var(Interned<str>),
    Add(Interned<Expr>, Interned<Expr>),
    Mul(Interned<Expr>, Interned<Expr>),
}

global_interner!(Expr);

use Expr::{Add, Const, Mul, Var};

/// `x + x`, doubled again and again: 2^n leaves.
fn doubled(n: u32) -> Interned<Expr> {
    let x = Interned::new(Var("x".into()));
    (0..n).fold(x, |term, _| Interned::new(Add(term.clone(), term)))
}

/// The value of a term where every variable is `x`. Each node is visited once, however often it occurs.
fn evaluate(term: &Interned<Expr>, x: u128, known: &mut HashMap<Interned<Expr>, u128>) -> u128 {
    if let Some(&value) = known.get(term) {
        return value;
    }
    let value = match &**term {
        Const(value) => *value,
        Var(_) => x,
        Add(a, b) => evaluate(a, x, known) + evaluate(b, x, known),
        Mul(a, b) => evaluate(a, x, known) * evaluate(b, x, known),
    };
    known.insert(term.clone(), value);
    value
}

fn main() {
    let terms = Expr::interner();

    let small = Expr::Mul(Interned::new(Const(3)), doubled(1));
    println!("{small:?}");
    drop(small);

    let tree = doubled(100);
    println!("nodes of a tree of 2^100 leaves: {}", terms.len());

    // Built again from scratch, it is the same object.
    println!("equal: {}", tree == doubled(100));
    println!("nodes of both: {}", terms.len());
    println!("equal to half of it: {}", tree == doubled(99));

    let mut known = HashMap::new();
    let value = evaluate(&tree, 3, &mut known);
    assert_eq!(value, 3 << 100);
    println!("value where x is 3: {value}, from {} steps", known.len());

    // The table of known values holds handles too.
    drop(tree);
    println!("nodes while their values are known: {}", terms.len());
    drop(known);
    println!("nodes after the last handle: {}", terms.len());
    println!("names left: {}", str::interner().len());
}
