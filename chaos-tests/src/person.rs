//! Owns one person in front of a screen: a client, and all that it was told. Does not judge. Invariant: what was told stays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use node::client::{ChatClient, Config, Item, http};
use parking_lot::Mutex;
use proto::client::http::VisitorCreated;
use proto::client::{Event, EventKind, Offered, Party, Place, Presence, Seat, Triggers};
use proto::ids::{AgentId, SessionId};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, SITE};
use crate::wait;

/// How long a person waits for what must come.
pub const SOON: Duration = Duration::from_secs(20);

/// What a client was told.
#[derive(Debug, Default)]
pub struct Told {
    pub events: Vec<Event<'static>>,
    pub presence: Vec<Presence>,
    /// The newest.
    pub seat: Option<Seat>,
    pub places: Vec<Place>,
    pub triggers: Vec<Triggers>,
    /// What a visitor typed.
    pub drafts: Vec<String>,
    /// The first promise that a node broke.
    pub broken: Option<String>,
}

impl Told {
    /// Who has the session, as far as this client knows.
    pub fn holder(&self, session: SessionId) -> Option<AgentId> {
        let of_session = self.events.iter().filter(|event| event.session == session);
        let holders = of_session.filter_map(|event| match event.kind {
            EventKind::Assigned { agent } => Some(Some(agent)),
            EventKind::Closed { .. } | EventKind::Queued { .. } => Some(None),
            EventKind::Message { .. }
            | EventKind::Act { .. }
            | EventKind::Gone
            | EventKind::Erased { .. }
            | EventKind::Hidden => None,
        });
        { holders }.next_back().flatten()
    }

    /// What is offered of a session.
    pub fn offer(&self, session: SessionId) -> Option<Offered> {
        self.seat.as_ref()?.offers.iter().find(|offer| offer.session == session).copied()
    }
}

/// A client, and what it was told. Ends with this.
pub struct Person {
    pub client: ChatClient,
    pub told: Arc<Mutex<Told>>,
    reader: JoinSet<()>,
}

impl Person {
    pub fn start(config: Config) -> Person {
        let (client, mut items) = ChatClient::start(config);
        let told = Arc::new(Mutex::new(Told::default()));
        let mut person = Person { client, told: told.clone(), reader: JoinSet::new() };
        person.reader.spawn(async move {
            while let Some(item) = items.recv().await {
                let mut told = told.lock();
                match item {
                    Item::Event(event) => told.events.push(event),
                    Item::Presence(presence) => told.presence.push(presence),
                    Item::Seat(seat) => told.seat = Some(seat),
                    Item::Place(place) => told.places.push(place),
                    Item::Triggers(triggers) => told.triggers.push(triggers),
                    Item::Typing(typing) => told.drafts.extend(typing.draft),
                    Item::ProtocolViolation(violation) => drop(told.broken.get_or_insert(violation.to_string())),
                    Item::Stopped(error) => drop(told.broken.get_or_insert(error.code.to_string())),
                    _ => {}
                }
            }
        });
        person
    }

    /// An agent of the site, who begins at that node.
    /// # Errors
    /// The name or the password is wrong.
    pub async fn agent(
        cluster: &Cluster,
        name: &str,
        password: &str,
        first: usize,
    ) -> anyhow::Result<(AgentId, Person)> {
        let nodes = cluster.clients_from(first);
        let login = http::login(&nodes[0], SITE, name, password).await?;
        Ok((login.agent, Person::start(Config::new(nodes, login.token, Party::Agent(login.agent)))))
    }

    /// A new visitor of the site, who begins at that node.
    /// # Errors
    /// No node makes one.
    pub async fn visitor(cluster: &Cluster, first: usize) -> anyhow::Result<(VisitorCreated, Person)> {
        let nodes = cluster.clients_from(first);
        let new = http::create_visitor(&nodes[0], SITE).await?;
        let config = Config::new(nodes, new.token.clone(), Party::Visitor(new.visitor));
        Ok((new, Person::start(config)))
    }

    /// What `look` finds in what was told, once it is there.
    /// # Errors
    /// It does not come in time, or a node broke a promise.
    pub async fn wait<T>(&self, what: &str, look: impl Fn(&Told) -> Option<T>) -> anyhow::Result<T> {
        self.wait_for(what, SOON, look).await
    }

    /// As `wait`, for so long.
    /// # Errors
    /// As `wait`.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn(&Told) -> Option<T>,
    ) -> anyhow::Result<T> {
        let found = wait::until(what, within, async || look(&self.told.lock())).await;
        self.check()?;
        found.with_context(|| format!("{:?}", self.told.lock()))
    }

    /// # Errors
    /// A node broke a promise.
    pub fn check(&self) -> anyhow::Result<()> {
        let told = self.told.lock();
        ensure!(told.broken.is_none(), "{:?}", told.broken);
        Ok(())
    }
}
