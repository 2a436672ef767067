//! A NATS server for tests: it speaks the protocol, records what its clients do, and replies as the test says.
//!
//! It is only for replies that a real server cannot be made to give: those of a cluster, of an old version, and none at
//! all.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A message that a client published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its subject.
    pub subject: String,
    /// Where a reply goes.
    pub reply: Option<String>,
    /// Its payload, without headers.
    pub payload: Bytes,
}

type Replies = dyn Fn(&Published) -> Option<Vec<u8>> + Send + Sync;

struct State {
    version: String,
    replies: Box<Replies>,
    published: Mutex<Vec<Published>>,
    /// Subjects of the open subscriptions, by connection and subscription id.
    subscriptions: Mutex<HashMap<(usize, String), String>>,
}

/// The server. It stops with the runtime of its test. Cheap to clone.
#[derive(Clone)]
pub struct FakeNats {
    url: String,
    state: Arc<State>,
}

impl std::fmt::Debug for FakeNats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeNats")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl FakeNats {
    /// Starts a server that greets clients as a nats-server of `version`. `replies` returns the reply to a message that
    /// asks for one; `None` stands for a reply that never comes.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(
        version: &str,
        replies: impl Fn(&Published) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            version: version.to_owned(),
            replies: Box::new(replies),
            published: Mutex::default(),
            subscriptions: Mutex::default(),
        });
        let server = Self {
            url: format!("nats://{address}"),
            state: state.clone(),
        };
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connections += 1;
                let state = state.clone();
                tokio::spawn(async move {
                    // A client that leaves ends its connection.
                    let _left = serve(&state, connections, stream).await;
                    state
                        .subscriptions
                        .lock()
                        .retain(|(owner, _), _| *owner != connections);
                });
            }
        });
        server
    }

    /// Returns the server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns every message so far, without those about the protocol.
    pub fn published(&self) -> Vec<Published> {
        self.state.published.lock().clone()
    }

    /// Returns the subjects of the open subscriptions.
    pub fn subscriptions(&self) -> Vec<String> {
        self.state.subscriptions.lock().values().cloned().collect()
    }
}

async fn serve(state: &State, connection: usize, mut stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let version = &state.version;
    let info = format!(
        "INFO {{\"server_id\":\"A\",\"version\":\"{version}\",\"max_payload\":1048576,\"headers\":true}}\r\n"
    );
    writer.write_all(info.as_bytes()).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["PING"] => writer.write_all(b"PONG\r\n").await?,
            ["SUB", subject, .., id] => {
                let key = (connection, id.to_owned());
                state.subscriptions.lock().insert(key, subject.to_owned());
            }
            ["UNSUB", id] => {
                state.subscriptions.lock().remove(&(connection, id.to_owned()));
            }
            [operation @ ("PUB" | "HPUB"), subject, .., size] => {
                let size: usize = size.parse().map_err(std::io::Error::other)?;
                let mut body = vec![0; size + "\r\n".len()];
                reader.read_exact(&mut body).await?;
                body.truncate(size);
                let (reply, headers) = match (operation, &words[2..words.len() - 1]) {
                    ("PUB", [reply]) => (Some(*reply), 0),
                    ("HPUB", [headers]) => (None, headers.parse().map_err(std::io::Error::other)?),
                    ("HPUB", [reply, headers]) => {
                        (Some(*reply), headers.parse().map_err(std::io::Error::other)?)
                    }
                    _ => (None, 0),
                };
                let message = Published {
                    subject: subject.to_owned(),
                    reply: reply.map(str::to_owned),
                    payload: body.split_off(headers).into(),
                };
                let answer = match &message.reply {
                    Some(reply) => (state.replies)(&message).and_then(|payload| {
                        let id = state.subscriber_of(connection, reply)?;
                        let head = format!("MSG {reply} {id} {}\r\n", payload.len());
                        Some([head.as_bytes(), &payload, b"\r\n"].concat())
                    }),
                    None => None,
                };
                state.published.lock().push(message);
                if let Some(answer) = answer {
                    writer.write_all(&answer).await?;
                }
            }
            _ => {}
        }
    }
}

impl State {
    /// Returns the id of the connection's subscription to `subject`.
    fn subscriber_of(&self, connection: usize, subject: &str) -> Option<String> {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => subject.starts_with(prefix),
            None => subject == pattern,
        };
        self.subscriptions
            .lock()
            .iter()
            .find(|((owner, _), pattern)| *owner == connection && matches(pattern))
            .map(|((_, id), _)| id.clone())
    }
}
