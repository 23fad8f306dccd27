//! `hapax force-unlock`: takes a grant away from its holder.

use crate::args::ForceUnlockArgs;
use crate::exit::{Exit, Failure};
use crate::store::Url;

pub(crate) fn run(args: &ForceUnlockArgs) -> Result<Exit, Failure> {
    let failure = |error| Failure::of(&error, 1);
    let store = Url::of(&args.store)?.open_existing()?;
    store.force_unlock(&args.key, args.token).map_err(failure)?;
    Ok(Exit::OK)
}
