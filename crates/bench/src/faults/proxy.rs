//! TCP proxies between a role and the NATS server, which disturb its connections.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::plan::Link;

/// A proxy. It stops when it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    /// The present fault, and a number that grows with each change.
    fault: Arc<watch::Sender<Option<Link>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `upstream` on a free port.
    pub(super) async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("starting a proxy")?;
        let address = listener.local_addr()?;
        let fault = Arc::new(watch::Sender::new(None));
        let task = tokio::spawn(accept(listener, upstream, fault.clone()));
        Ok(Self { address, fault, task })
    }

    /// Returns the address for clients.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets or ends a fault.
    pub(super) fn set(&self, fault: Option<Link>) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, fault: Arc<watch::Sender<Option<Link>>>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if *fault.borrow() == Some(Link::Cut) {
            continue;
        }
        let (client_fault, server_fault) = (fault.subscribe(), fault.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(upstream).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // Both directions end together, as they do when the connection breaks.
            tokio::select! {
                () = pass_on(from_client, to_server, client_fault) => {}
                () = pass_on(from_server, to_client, server_fault) => {}
            }
        });
    }
}

/// Passes data on until a side closes, or the connection is cut. A half-open connection is cut when the fault ends.
async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Option<Link>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let present = *fault.borrow_and_update();
        match present {
            Some(Link::Cut) => return,
            Some(Link::HalfOpen) => {
                let _ended = fault.changed().await;
                return;
            }
            None | Some(Link::Slow(_)) => {}
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = fault.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(length @ 1..) = read else { return };
        if let Some(Link::Slow(delay)) = present {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Starts a server that echoes, and a proxy to it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Proxy::start(address).await.unwrap()
    }

    async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await.map(|_| ())
    }

    #[tokio::test]
    async fn a_cut_closes_connections_and_refuses_others_until_it_ends() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut stream).await.unwrap();
        proxy.set(Some(Link::Cut));
        exchange(&mut stream).await.unwrap_err();
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut refused).await.unwrap_err();
        proxy.set(None);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut again).await.unwrap();
    }

    #[tokio::test]
    async fn a_half_open_connection_is_silent_and_ends_with_the_fault() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut stream).await.unwrap();
        proxy.set(Some(Link::HalfOpen));
        let silence = tokio::time::timeout(Duration::from_millis(300), exchange(&mut stream));
        assert!(silence.await.is_err());
        proxy.set(None);
        exchange(&mut stream).await.unwrap_err();
    }
}
