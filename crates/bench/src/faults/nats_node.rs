//! NATS servers of the testbed: one, or the members of a cluster.

use std::net::SocketAddr;
use std::path::Path;

use super::plan::Target;

/// A NATS server.
pub(super) struct NatsNode {
    /// Its address for clients.
    pub(super) clients: SocketAddr,
    /// Its address for the other servers.
    pub(super) servers: SocketAddr,
}

/// Returns the configuration of the server at `index`, which keeps its streams in `store`.
pub(super) fn config(nodes: &[NatsNode], index: usize, store: &Path) -> String {
    let node = &nodes[index];
    let mut text = format!(
        "listen: \"{}\"\nserver_name: {}\nmax_payload: 4194304\n\
         jetstream {{ store_dir: \"{}\", max_file_store: 16GB, sync_interval: 1s }}\n",
        node.clients,
        Target::Nats(index),
        store.display()
    );
    if nodes.len() > 1 {
        let route = |node: &NatsNode| format!("\"nats-route://{}\"", node.servers);
        let routes: Vec<String> = nodes.iter().map(route).collect();
        text.push_str(&format!(
            "cluster {{ name: precis, listen: \"{}\", routes: [{}] }}\n",
            node.servers,
            routes.join(", ")
        ));
    }
    text
}
