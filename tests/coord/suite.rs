//! What every store promises. Each test is a function over a [`World`]; a store's own file names all of them by `suite!`.
//!
//! Time is real here, and leases are short, so a test says that something comes about, and at what time at the earliest,
//! but hardly ever at what time at the latest. That something doesn't come about it says after it has looked for a moment.

use super::*;

mod averager;
mod deadlock;
mod errors;
mod leases;
mod lock;
mod on_memory;
#[cfg(feature = "coord-redis")]
mod on_redis;
#[cfg(feature = "coord-sqlite")]
mod on_sqlite;
mod queue;
mod rate_limiter;
mod rlock;
mod semaphore;
mod several;
mod shared;
mod single_flight;
mod status;
mod tags;
mod tasks;

/// A fresh store, and the processes that have it open.
trait World {
    type Session: Store + Clone + Send + Sync + 'static;

    /// Leases of the session have an end, which moves on as long as the process renews them.
    const SESSION_LEASES_END: bool = false;

    fn new() -> Self;

    /// One more process.
    fn session(&self) -> Self::Session;
}

/// Two processes.
fn two<W: World>() -> (W, W::Session, W::Session) {
    let world = W::new();
    let (one, other) = (world.session(), world.session());
    (world, one, other)
}

/// Makes tests of the functions of those modules.
macro_rules! tests {
    ($world:ty; $($module:ident: $($test:ident)*;)*) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                $crate::suite::$module::$test::<$world>();
            })*
        })*
    };
}

/// All tests, for one kind of world. One that isn't named here is never used, of which the compiler warns.
macro_rules! suite {
    ($world:ty) => {
        $crate::suite::tests! { $world;
            lock:
                one_at_a_time
                a_drop_gives_it_back
                a_session_excludes_itself
                a_worker_is_kept_out
                test_barrier
                what_is_synchronized_gives_back
                a_guard_outlives_its_thread_and_its_store
                a_time_limit_is_kept
                keys_are_any_text
                tokens_grow
                counts_are_exact;
            tasks:
                a_task_waits_its_turn
                a_task_that_goes_away_leaves_the_queue
                what_a_task_did_not_take_goes_back
                a_task_drops_its_guard
                many_tasks_of_few_threads
                a_waker_that_panics_harms_nobody
                a_task_of_a_closed_store
                a_task_is_told_of_a_deadlock;
            shared:
                several_readers
                a_writer_waits_for_all_readers
                a_reader_does_not_pass_a_writer
                readers_follow_a_writer_together
                a_writer_that_gives_up_lets_readers_in;
            rlock:
                taken_again_by_its_thread
                other_threads_and_processes_are_kept_out
                any_order_of_release
                taken_again_it_ends_no_later
                once_lost_it_is_not_taken_again
                another_rlock_of_the_thread_is_a_deadlock;
            semaphore:
                three_permits
                slots_are_distinct
                a_permit_goes_to_the_waiter
                never_more_than_the_limit
                a_lease_ends_alone;
            queue:
                first_come_first_served
                who_gives_up_is_skipped
                who_closes_is_skipped
                nobody_passes_who_is_due
                permits_in_order;
            leases:
                a_lease_that_is_shortened
                a_fixed_lease_ends
                a_lease_hands_over_when_it_ends
                a_strict_queue_hears_of_leases
                an_extended_lease_lasts
                a_renewed_lease_lasts
                a_session_lease_has_no_end_until_extended
                loss_is_told;
            deadlock:
                of_oneself
                of_a_family
                of_two_families
                of_two
                of_three
                of_readers
                of_a_reader_that_writes
                of_semaphores
                a_lasso_waits
                a_free_permit_is_no_deadlock
                nothing_is_wrong_with_a_time_limit
                nothing_is_wrong_without_owners
                nothing_is_wrong_with_leases_that_end;
            errors:
                a_lock_is_no_semaphore
                a_semaphore_has_one_limit
                errors_say_where
                who_is_cancelled_leaves
                no_permits_at_all;
            averager:
                test_averager
                test_averager_docstring
                numbers_that_are_none_are_refused
                a_sum_stays_finite
                each_addition_starts_the_time_anew
                no_addition_is_lost
                each_number_is_popped_once
                averages_outlive_sessions
                a_time_that_never_ends
                a_closed_store_has_no_averages
                many_averages_that_expire;
            rate_limiter:
                test_throttle
                a_bucket_is_full_at_first
                processes_share_a_limit
                a_limit_outlives_sessions
                waiters_come_one_by_one
                who_cannot_be_served_in_time_does_not_wait
                who_is_served_in_time_waits
                who_is_cancelled_puts_his_permit_back
                a_permit_is_not_put_back_if_somebody_came_after
                a_task_waits_for_its_permit
                a_task_that_goes_away_puts_its_permit_back
                a_limit_has_one_rate
                an_average_is_no_limit
                names_of_locks_are_others
                closing_ends_a_wait
                nobody_is_let_by;
            single_flight:
                a_cold_miss_is_computed_once
                an_old_value_is_taken_at_once
                test_memoize_stampede
                test_memoize_stampede_fibonacci
                nearly_over_means_early
                who_fails_early_gets_what_is_fresh
                as_early_as_the_dice_say
                who_computes_gets_the_error
                a_panic_lets_the_next_one_in
                errors_of_reads_come_through
                who_was_forestalled_computes_nothing
                two_that_need_each_other
                of_itself_it_is_a_deadlock
                a_closed_store_computes_nothing
                a_beta_that_means_nothing;
            several:
                all_or_nothing
                opposite_orders_are_no_deadlock
                a_key_that_is_there_twice
                the_time_is_that_of_all
                a_task_takes_several
                of_several_stores
                none_at_all;
            tags:
                what_has_a_tag_is_taken_away
                a_holder_whose_tag_is_taken_away_learns_of_it
                who_waits_by_a_tag_goes_on
                a_tag_stays_with_its_value
                what_is_over_does_not_count;
            status:
                an_empty_list
                holders_and_waiters_are_listed
                force_unlock_hands_over
                force_unlock_of_what_is_not_held
                closing_ends_waits_and_frees
                nothing_works_once_closed
                a_guard_keeps_the_store_open;
        }
    };
}
use {suite, tests};
