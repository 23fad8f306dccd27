use hapax::*; use std::sync::Arc; use hapax_loom_tests::{model, spawn, Identity as Id};
#[test] fn same(){ model(2, move||{ 
  let i=Arc::new(Interner::<u64,Id>::with_hasher(Id)); let j=i.clone();
  let h=spawn(move||{ j.intern(1u64) });
  let a=i.intern(1u64); let b=h.join().unwrap(); assert_eq!(a,b); drop(a); drop(b); assert_eq!(i.len(),0);
 });
}
#[test] fn drops(){ model(2, move||{ 
  let i=Arc::new(Interner::<u64,Id>::with_hasher(Id)); let j=i.clone();
  let a=i.intern(1u64);
  let h=spawn(move||{ drop(j.intern(1u64)) });
  drop(a); h.join().unwrap(); assert_eq!(i.len(),0); assert!(i.iter().next().is_none());
 });
}
