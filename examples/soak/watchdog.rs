//! Notices that nobody gets on.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::lives;
use crate::posts::Post;
use crate::verdict::violation;

/// How long all threads may stand before that is a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Watches for the rest of the program.
pub(crate) fn start(posts: Vec<Arc<Post>>) {
    let watch = move || {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_secs(1));
            let ticks = posts.iter().map(|post| post.ticks()).sum();
            if ticks != before {
                (before, since) = (ticks, Instant::now());
            } else if since.elapsed() >= PATIENCE {
                let busy = posts.iter().filter(|post| post.ticks() > 0);
                let doing: Vec<_> = busy.map(|post| post.describe()).collect();
                let doing = doing.join("\n  ");
                violation(format_args!("nobody gets on:\n  {doing}"));
            }
        }
    };
    lives::start("watchdog".into(), watch);
}
