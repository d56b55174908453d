//! Owns a node on a simulated machine: all of it but HTTP. Compiled with the feature `sim` only.
//! Does not simulate anything itself. Invariant: what a socket or a call does here, it does through the code of a real node.

use crate::auth;
use crate::connection::{Socket, take};
use crate::gateway::{new_token, new_visitor};
use crate::hooks::{NodeHooks, Outside};
use crate::push::Hub;
use crate::search::Indexes;
use anyhow::Context;
use cluster::node::{ClusterNode, NodeConfig, Storage};
use cluster::transport::{Listener, Socket as Stream};
use futures_util::future::poll_fn;
use futures_util::{SinkExt, StreamExt};
use proto::client::ErrorInfo;
use proto::command::{Command, MetaCommand, NodeState, Party, Target};
use proto::desk::{SeatRules, TeamRules};
use proto::ids::{AgentId, NodeId, SessionId, SiteId, TeamId};
use proto::peer::{MetaReply, Page, Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::Handle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// How long a call may wait for the cluster.
const META_WITHIN: Duration = Duration::from_secs(5);
/// A line of a call.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Steps of an erasure: of a conversation that begins meanwhile, and of a session with many events.
const ERASE_TRIES: usize = 20;
/// What an agent's password is in a simulation, where nobody checks it: the hash is slow on purpose.
const NO_PASSWORD: &str = "none";

/// What can be asked of a node beside its sockets; real nodes take these over HTTP. One line of JSON, and one as the answer:
/// `{"ok":...}`, or `{"refused":CODE}` for good, or `{"unknown":...}`: it may have been done or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Visitor {
        site: String,
    },
    AddAgent {
        site: String,
        name: String,
    },
    Login {
        site: String,
        name: String,
    },
    JoinToken,
    /// A team that all are of, whose agents are asked first; 0: they are not.
    SetTeam {
        site: String,
        accept_ms: u32,
    },
    /// An agent is of that team.
    SetSeat {
        site: String,
        agent: String,
        capacity: u32,
    },
    /// Everything in a session goes, and all that is known of its visitor.
    Erase {
        session: String,
    },
    Move {
        session: String,
        agent: String,
    },
    SetNode {
        node: u32,
        drain: bool,
    },
    Transfer {
        shard: u32,
        node: u32,
    },
    Status,
}

/// A running node.
pub struct SimNode {
    pub cluster: Arc<ClusterNode>,
    hub: Arc<Hub>,
}

impl SimNode {
    /// Starts the node; its tasks are those of the current runtime and end with it.
    /// # Errors
    /// As `ClusterNode::start`.
    pub async fn start(config: NodeConfig, storage: Storage, peers: Listener) -> anyhow::Result<Arc<SimNode>> {
        let hub = Hub::new(Handle::current());
        let for_hooks = hub.clone();
        let no_indexes = Indexes::new(None);
        let make_hooks = move |weak| {
            NodeHooks::new(weak, for_hooks, Handle::current(), false, Outside::nowhere(), no_indexes) as Arc<_>
        };
        let no_password = || Ok(NO_PASSWORD.to_owned());
        let cluster = ClusterNode::start(config, Some(storage), peers, make_hooks, no_password).await?;
        hub.attach(&cluster);
        Ok(Arc::new(SimNode { cluster, hub }))
    }

    /// Serves sockets of clients for ever.
    pub async fn serve_clients(self: Arc<Self>, listener: Listener) {
        while let Ok(stream) = listener.accept().await {
            let node = self.clone();
            self.hub.spawn(async move { node.client(stream).await });
        }
    }

    async fn client(&self, stream: Stream) {
        #[expect(clippy::result_large_err, reason = "the library's type")]
        let agree = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            if let Some(offered) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", offered.clone());
            }
            Ok(response)
        };
        let Ok(stream) = tokio_tungstenite::accept_hdr_async(stream, agree).await else { return };
        let socket = Socket::new(self.hub.clone(), None, None, Default::default());
        if self.hub.opened(&socket) {
            pump(stream, &socket).await;
            self.hub.closed(&socket);
        }
    }

    /// Answers calls for ever.
    pub async fn serve_calls(self: Arc<Self>, listener: Listener) {
        while let Ok(stream) = listener.accept().await {
            let node = self.clone();
            self.hub.spawn(async move {
                // A caller that went away needs no answer.
                let _ = node.answer(stream).await;
            });
        }
    }

    async fn answer(&self, stream: Stream) -> anyhow::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        anyhow::ensure!(line.len() <= LINE_BYTES_MAX, "a line that long is no call");
        let call: Call = serde_json::from_str(&line)?;
        let answer = self.take(call).await.unwrap_or_else(|error| json!({ "unknown": format!("{error:#}") }));
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
        stream.flush().await?;
        Ok(())
    }

    async fn take(&self, call: Call) -> anyhow::Result<Value> {
        match call {
            Call::Visitor { site } => Ok(answered(new_visitor(&self.cluster, &site).await)),
            Call::AddAgent { site, name } => {
                let password = NO_PASSWORD.to_owned();
                Ok(self.meta(MetaCommand::AddAgent { site, name, password }).await)
            }
            Call::Login { site, name } => self.log_in(&site, name).await,
            Call::JoinToken => {
                let secret = auth::mint_plain_token("join")?;
                let token = auth::Secret::new(format!("{}.{}", secret.expose(), self.cluster.join_pins()));
                let add = MetaCommand::CreateJoinToken { token: token.hash(), expires_ms: u64::MAX };
                let done = self.meta(add).await;
                Ok(if done.get("ok").is_some() { json!({ "ok": token.expose() }) } else { done })
            }
            Call::Erase { session } => self.erase(session.parse()?).await,
            Call::Move { session, agent } => self.move_session(session.parse()?, agent.parse()?).await,
            Call::SetTeam { site, accept_ms } => {
                let rules = TeamRules { name: "all".to_owned(), accept_ms, hashed: true, ..TeamRules::default() };
                let rules = Some(rules);
                self.at_desk(&site, |site| Command::PutTeam { site, team: TeamId(1), rules }).await
            }
            Call::SetSeat { site, agent, capacity } => {
                let agent = agent.parse()?;
                let teams = vec![TeamId(1)];
                let rules = SeatRules { capacity, teams, channels: Vec::new(), skills: Vec::new() };
                self.at_desk(&site, |site| Command::PutSeat { site, agent, rules }).await
            }
            Call::SetNode { node, drain } => {
                let state = if drain { NodeState::Draining } else { NodeState::Active };
                Ok(self.meta(MetaCommand::SetNodeState { node: NodeId(node), state }).await)
            }
            Call::Transfer { shard, node } => {
                let done = self.cluster.transfer(proto::ids::ShardId(shard), NodeId(node)).await;
                Ok(done.map_or_else(|error| json!({ "refused": error.to_string() }), |()| json!({ "ok": null })))
            }
            Call::Status => Ok(json!({ "ok": self.status() })),
        }
    }

    async fn meta(&self, command: MetaCommand) -> Value {
        match self.cluster.meta_propose(command, META_WITHIN).await {
            MetaReply::Refused { reason } => json!({ "refused": reason }),
            MetaReply::Unknown | MetaReply::NotLeader { .. } => json!({ "unknown": "meta" }),
            _ => json!({ "ok": null }),
        }
    }

    async fn log_in(&self, site: &str, name: String) -> anyhow::Result<Value> {
        self.cluster.meta_catch_up(META_WITHIN).await;
        let found = self.cluster.with_meta(|state| {
            let (site, _) = state.site_by_name(site)?;
            state.agent_by_name(site, &name).map(|(agent, _)| (agent, site))
        });
        let (agent, site) = found.flatten().context("no such agent here yet")?;
        Ok(answered(new_token(&self.cluster, agent, site, name).await))
    }

    async fn at_desk(&self, site: &str, command: impl FnOnce(SiteId) -> Command) -> anyhow::Result<Value> {
        let found = self.cluster.with_meta(|state| state.site_by_name(site).map(|(site, _)| site));
        let site = found.flatten().context("no such site here yet")?;
        let router = &self.cluster.router;
        let asked = router.call(router.shard_of(Target::Desk(site)), ShardCall::Propose(command(site))).await;
        Ok(match asked {
            ShardReply::Done => json!({ "ok": null }),
            ShardReply::Refused(refused) => json!({ "refused": format!("{refused:?}") }),
            other => json!({ "unknown": format!("{other:?}") }),
        })
    }

    async fn move_session(&self, session: SessionId, agent: AgentId) -> anyhow::Result<Value> {
        let router = &self.cluster.router;
        let shard = router.shard_of(Target::Session(session));
        // As the admin API does: look first, then move what was seen.
        let look = ShardCall::History { session, page: Page::Latest, limit: 1, site: None };
        let seen = match router.call(shard, look).await {
            ShardReply::History { head, .. } => head,
            other => return Ok(json!({ "unknown": format!("{other:?}") })),
        };
        let command = Command::ReassignSeen { session, agent, seen };
        Ok(match router.call(shard, ShardCall::Propose(command)).await {
            ShardReply::Done => json!({ "ok": null }),
            ShardReply::Refused(refused) => json!({ "refused": format!("{refused:?}") }),
            other => json!({ "unknown": format!("{other:?}") }),
        })
    }

    /// As the API does: ends what is open, and erases up to what there is by then.
    async fn erase(&self, session: SessionId) -> anyhow::Result<Value> {
        let router = &self.cluster.router;
        let shard = router.shard_of(Target::Session(session));
        let look = ShardCall::History { session, page: Page::Latest, limit: 1, site: None };
        let ShardReply::History { head: mut upto, .. } = router.call(shard, look.clone()).await else {
            return Ok(json!({ "unknown": "head" }));
        };
        for _ in 0..ERASE_TRIES {
            let command = Command::Erase { session, upto, forget: true };
            match router.call(shard, ShardCall::Propose(command)).await {
                ShardReply::Refused(Refused::Changed) => {
                    let close = Command::Close { session, by: Party::System };
                    let _ = router.call(shard, ShardCall::Propose(close)).await;
                    if let ShardReply::History { head, .. } = router.call(shard, look.clone()).await {
                        upto = head;
                    }
                }
                ShardReply::Sent { seq, .. } if seq >= upto => return Ok(json!({ "ok": null })),
                ShardReply::Sent { .. } => {}
                other => return Ok(json!({ "unknown": format!("{other:?}") })),
            }
        }
        Ok(json!({ "unknown": "it begins again and again" }))
    }

    fn status(&self) -> Value {
        let status = self.cluster.status();
        let shards = status.shards.iter().map(|shard| {
            json!({
                "shard": shard.shard.0,
                "leader": shard.leader.map(|node| node.0),
                "epoch": shard.epoch,
                "applied": shard.applied,
                "hash": shard.state_hash.map(|hash| format!("{hash:016x}")),
                "serving": shard.serving,
                "voters": shard.replicas.iter().filter(|one| one.voter == Some(true)).map(|one| one.node.0).collect::<Vec<_>>(),
            })
        });
        json!({ "node": status.node.0, "shards": shards.collect::<Vec<_>>() })
    }
}

fn answered(result: Result<Value, ErrorInfo<'static>>) -> Value {
    match result {
        Ok(body) => json!({ "ok": body }),
        Err(error) if error.retry_after_ms.is_some() => json!({ "unknown": error.code.as_str() }),
        Err(error) => json!({ "refused": error.code.as_str() }),
    }
}

/// Moves frames between the stream and the socket until one of them ends.
async fn pump(mut stream: WebSocketStream<Stream>, socket: &Arc<Socket>) {
    enum Step {
        Came(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
        Goes(Option<String>),
    }
    loop {
        let next = poll_fn(|cx| {
            socket.waker.register(cx.waker());
            let (frame, closes) = socket.with(|state| (state.frames.pop(), state.close.is_some() || state.closed));
            match frame {
                Some(frame) => Poll::Ready(Some(frame)),
                None if closes => Poll::Ready(None),
                None => Poll::Pending,
            }
        });
        let step = tokio::select! {
            biased;
            frame = next => Step::Goes(frame),
            message = stream.next() => Step::Came(message),
        };
        match step {
            Step::Goes(Some(frame)) => {
                if stream.send(Message::text(frame)).await.is_err() {
                    return;
                }
            }
            Step::Goes(None) => {
                // The other side may be gone already.
                let _ = stream.close(None).await;
                return;
            }
            Step::Came(Some(Ok(Message::Text(text)))) => take(socket, text.as_bytes()),
            Step::Came(Some(Ok(Message::Close(_)) | Err(_)) | None) => return,
            Step::Came(Some(Ok(_))) => {}
        }
    }
}
