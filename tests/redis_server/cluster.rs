//! A cluster of primaries without replicas, whose slots can be moved.

use super::{Server, Value, until};

/// Nodes that share the slots in equal parts.
pub struct Cluster {
    nodes: Vec<Server>,
}

const SLOTS: usize = 16_384;

impl Cluster {
    /// Takes about two seconds: so long a node waits before it thinks that all is well.
    pub fn start(count: usize) -> Self {
        let start = || Server::options().cluster_node().start();
        let nodes: Vec<_> = (0..count).map(|_| start()).collect();
        for (number, node) in nodes.iter().enumerate() {
            let first = (number * SLOTS / count).to_string();
            let last = ((number + 1) * SLOTS / count - 1).to_string();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            // Otherwise they have to agree on that.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port(), super::process::bus_port(node.port()));
            let (port, bus) = (port.to_string(), bus.to_string());
            nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let cluster = Self { nodes };
        until("the cluster is well", || cluster.is_well());
        cluster
    }

    fn is_well(&self) -> bool {
        self.nodes.iter().all(|node| {
            let info = node.command(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok")
                && info.contains(&format!("cluster_known_nodes:{}", self.nodes.len()))
                && info.contains(&format!("cluster_slots_ok:{SLOTS}"))
        })
    }

    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// How a client opens it: by its first node.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    pub fn slot(&self, key: &str) -> u16 {
        let slot = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]);
        slot.integer().try_into().unwrap()
    }

    /// The number of the node that has a slot, as that node sees it.
    pub fn owner(&self, slot: u16) -> usize {
        let has_it = |node: &Server| {
            let me = node.command(&["CLUSTER", "MYID"]);
            let ranges = node.command(&["CLUSTER", "SLOTS"]).list();
            ranges.into_iter().map(Value::list).any(|range| {
                let slots = range[0].integer()..=range[1].integer();
                slots.contains(&slot.into()) && range[2].clone().list()[2] == me
            })
        };
        self.nodes
            .iter()
            .position(has_it)
            .expect("all slots are somebody's")
    }

    /// Moves a slot, with all that is in it, to another node.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let moving = self.begin_move(slot, to);
        moving.keys();
        moving.finish();
    }

    /// Begins to move a slot. Until its keys are moved, nothing has changed; a key that is gone is asked for at the other
    /// node, and a request for several keys that are on both nodes is to be tried again.
    pub fn begin_move(&self, slot: u16, to: usize) -> Move<'_> {
        let from = self.owner(slot);
        assert_ne!(from, to, "slot {slot} is there already");
        let moving = Move {
            cluster: self,
            slot,
            from,
            to,
        };
        let (old, new) = (moving.id(from), moving.id(to));
        let text = slot.to_string();
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &text, "IMPORTING", &old]);
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &text, "MIGRATING", &new]);
        moving
    }
}

/// A slot that is on its way.
#[must_use]
pub struct Move<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: usize,
    to: usize,
}

impl Move<'_> {
    fn id(&self, node: usize) -> String {
        self.cluster.nodes[node]
            .command(&["CLUSTER", "MYID"])
            .text()
    }

    /// The keys that haven't been moved.
    pub fn left(&self) -> Vec<String> {
        let slot = self.slot.to_string();
        let keys =
            self.cluster.nodes[self.from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        keys.list().iter().map(Value::text).collect()
    }

    /// Moves one key.
    pub fn key(&self, key: &str) {
        let port = self.cluster.nodes[self.to].port().to_string();
        let from = &self.cluster.nodes[self.from];
        from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Moves all keys, also those that come meanwhile.
    pub fn keys(&self) {
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|key| self.key(key));
        }
    }

    /// The slot is the other node's, and all nodes know it.
    pub fn finish(self) {
        let (slot, id) = (self.slot.to_string(), self.id(self.to));
        let nodes = &self.cluster.nodes;
        let others = (0..nodes.len()).filter(|&node| node != self.to);
        for node in std::iter::once(self.to).chain(others) {
            nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
        until("the cluster is well", || self.cluster.is_well());
    }
}
