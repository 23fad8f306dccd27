//! The suite on a store in memory.

use super::{MemoryStore, World, suite};

struct Memory(MemoryStore);

impl World for Memory {
    type Session = MemoryStore;

    fn new() -> Self {
        Self(MemoryStore::new())
    }

    fn session(&self) -> MemoryStore {
        self.0.new_session()
    }
}

suite!(crate::suite::on_memory::Memory);
