//! Waits for each other.

use std::fs;

use crate::common::{Place, Running, code};

crate::trials! {
    all:
        of_two_that_wait_for_each_other_one_fails,
        a_deadlock_has_the_status_of_what_was_not_granted,
        who_has_another_owner_is_waited_for;
}

fn of_two_that_wait_for_each_other_one_fails(place: Place) {
    let nested = |first: &str, other: &str| {
        let script = format!(
            r#"touch {first}; while [ ! -e {other} ]; do sleep 0.01; done
               "$HAPAX" lock {other} echo both"#
        );
        Running::piped(&mut place.hapax(["lock", first, "-c", &script]))
    };
    let mut both = [nested("A", "B"), nested("B", "A")];
    let statuses = both.each_mut().map(|one| one.code());
    let said = both.each_mut().map(|one| one.said());
    let loser = statuses.iter().position(|&status| status == Some(1));
    let loser = loser.unwrap_or_else(|| panic!("{statuses:?} {said:?}"));
    assert_eq!(statuses[1 - loser], Some(0), "{said:?}");
    assert_eq!(said[1 - loser], ("both\n".to_owned(), String::new()));
    // It says who waits for whom, which nobody could find out afterwards.
    assert_eq!(said[loser].0, "");
    assert!(said[loser].1.contains("deadlock"), "{said:?}");
}

fn a_deadlock_has_the_status_of_what_was_not_granted(place: Place) {
    let script = r#""$HAPAX" lock -E 9 k true"#;
    let (status, said) = code(&mut place.lock(&[], script));
    assert_eq!(status, Some(9), "{said}");
    assert!(said.contains("deadlock"), "{said}");
}

fn who_has_another_owner_is_waited_for(place: Place) {
    let mut held = place.hold(&[], "");
    let mut waiter = Running::start(&mut place.lock(&[], "true"));
    place.wait_for_waiters(1);
    // Longer than it takes until it is looked for a deadlock.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!waiter.has_ended());
    fs::write(place.path("end"), "").unwrap();
    assert_eq!((held.code(), waiter.code()), (Some(0), Some(0)));
}
