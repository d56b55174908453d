//! Owns the search for an order in which a sequential object could have given the answers that were seen. Does not know the
//! object. Invariant: `Linearizable` and `Not` are exact; a search that would take too long says so.
//!
//! Source: Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of states seen of Lowe,
//! "Testing for linearizability" (2016).

use std::collections::HashSet;
use std::hash::Hash;
use std::rc::Rc;

/// An object that does one thing after the other.
pub trait Model {
    type State: Clone + Eq + Hash;
    /// An operation together with its answer, or with the mark that none is known.
    type Call: Eq;

    fn start(&self) -> Self::State;

    /// The state after the call; `None` when the object would not have answered so.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// Whether the call leaves every state as it is. Such a call is put in order as soon as it fits, without a second thought.
    fn is_read(&self, call: &Self::Call) -> bool;
}

/// A call and when it was under way. Calls that touch overlap: one that begins at the time of another's return does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<C> {
    pub call: C,
    pub invoked: usize,
    /// `None`: it never returned. It may take effect at any time after its begin, or never.
    pub returned: Option<usize>,
    pub effect: Effect,
}

/// When a call can have changed the state, if it did. Equal calls have equal effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Anytime,
    /// Other evidence says that such a change can only lie between these times. Neither the first nor the second ever falls.
    Within(Rc<[(usize, usize)]>),
}

impl<C> Timed<C> {
    /// Whether the call can have changed the state between these times.
    fn can_change(&self, from: usize, until: usize) -> bool {
        let Effect::Within(times) = &self.effect else { return true };
        let next = times.partition_point(|(_, last)| *last < from);
        times.get(next).is_some_and(|(first, _)| *first <= until)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// The return that the longest order found could not get past, as its place among the calls.
    Not {
        stuck: usize,
    },
    /// The limit was reached first.
    GaveUp,
}

/// Searches; `steps_max` bounds the calls tried, and with them time and memory.
pub fn search<M: Model>(model: &M, calls: &[Timed<M::Call>], steps_max: u64) -> Answer {
    let mut search = Search::new(model, calls);
    let mut at = Place::Listed(search.list.first());
    let mut best = (0, 0);
    for _ in 0..steps_max {
        // Only calls that never return are left.
        if search.due == 0 {
            return Answer::Linearizable;
        }
        let next = match at {
            Place::Listed(entry) => match search.list.entries[entry].what {
                Entry::Begin(call) => match search.try_call(call) {
                    true => Some(Place::Listed(search.list.first())),
                    false => Some(Place::Listed(search.list.entries[entry].next)),
                },
                Entry::Return(call) => {
                    if search.taken.len() >= best.0 {
                        best = (search.taken.len(), call);
                    }
                    Some(Place::Open(0, calls[call].returned.unwrap_or(usize::MAX)))
                }
                Entry::Edge => search.take_back(),
            },
            Place::Open(number, until) => match search.open.get(number).map(|open| open.call) {
                Some(call) if calls[call].invoked <= until => match search.try_open(number, until) {
                    true => Some(Place::Listed(search.list.first())),
                    false => Some(Place::Open(number + 1, until)),
                },
                _ => search.take_back(),
            },
        };
        match next {
            Some(next) => at = next,
            None => return Answer::Not { stuck: best.1 },
        }
    }
    Answer::GaveUp
}

/// Where the search goes on: first through the calls that returned, then, when it would be stuck, through those that did not
/// and had begun before the given time.
#[derive(Clone, Copy)]
enum Place {
    Listed(usize),
    Open(usize, usize),
}

struct Search<'m, M: Model> {
    model: &'m M,
    calls: &'m [Timed<M::Call>],
    /// Begins and returns of the calls that returned and are not in order yet.
    list: List,
    /// Place of each call in the list, begin and return, or in `open`.
    places: Vec<(usize, usize)>,
    /// Calls that never returned, in the order of their begins.
    open: Vec<Open>,
    state: M::State,
    /// What is put in order next takes place at this time or later.
    floor: usize,
    done: Bits,
    taken: Vec<Taken<M::State>>,
    seen: HashSet<(Bits, M::State)>,
    /// Calls that returned and are not in order yet.
    due: usize,
}

struct Open {
    call: usize,
    is_taken: bool,
    /// The one before that is equal. There is no telling them apart, so it is used first.
    twin: Option<usize>,
}

/// A call put in order.
struct Taken<S> {
    call: usize,
    before: S,
    /// Before the call.
    floor: usize,
    /// A read: putting it elsewhere cannot help.
    is_forced: bool,
    resume: Place,
}

impl<'m, M: Model> Search<'m, M> {
    fn new(model: &'m M, calls: &'m [Timed<M::Call>]) -> Self {
        let mut order: Vec<(usize, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        let mut open: Vec<Open> = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            match call.returned {
                Some(at) => order.extend([(call.invoked, false, number), (at, true, number)]),
                None => open.push(Open { call: number, is_taken: false, twin: None }),
            }
        }
        // At equal times begins come before returns.
        order.sort_unstable();
        open.sort_by_key(|open| calls[open.call].invoked);
        let mut places = vec![(0, 0); calls.len()];
        // Entry 0 is the edge.
        for (at, (_, is_return, number)) in (1..).zip(&order) {
            match is_return {
                false => places[*number].0 = at,
                true => places[*number].1 = at,
            }
        }
        for number in 0..open.len() {
            let call = open[number].call;
            places[call].0 = number;
            open[number].twin = (0..number).rev().find(|twin| calls[open[*twin].call].call == calls[call].call);
        }
        let whats = order.iter().map(|(_, is_return, number)| match is_return {
            false => Entry::Begin(*number),
            true => Entry::Return(*number),
        });
        let list = List::of(whats);
        let due = order.len() / 2;
        let (done, taken, seen) = (Bits::default(), Vec::new(), HashSet::new());
        Search { model, calls, list, places, open, state: model.start(), floor: 0, done, taken, seen, due }
    }

    /// Puts a call that returned next in order; false when it does not fit here or was tried from this state before.
    fn try_call(&mut self, call: usize) -> bool {
        let (begin, end) = self.places[call];
        let resume = Place::Listed(self.list.entries[begin].next);
        let Some(after) = self.model.step(&self.state, &self.calls[call].call) else { return false };
        let is_taken = match self.model.is_read(&self.calls[call].call) {
            true => self.take_read(call, resume),
            false => self.first_return_for(call).is_some_and(|until| self.take(call, after, until, resume)),
        };
        if is_taken {
            self.list.unlink(begin);
            self.list.unlink(end);
            self.due -= 1;
        }
        is_taken
    }

    /// The same for a call that never returned.
    fn try_open(&mut self, number: usize, until: usize) -> bool {
        let Open { call, is_taken, twin } = self.open[number];
        if is_taken || twin.is_some_and(|twin| !self.open[twin].is_taken) {
            return false;
        }
        let Some(after) = self.model.step(&self.state, &self.calls[call].call) else { return false };
        // What need not have happened and changes nothing is no progress.
        if after == self.state || !self.take(call, after, until, Place::Open(number + 1, until)) {
            return false;
        }
        self.open[number].is_taken = true;
        true
    }

    fn take(&mut self, call: usize, after: M::State, until: usize, resume: Place) -> bool {
        let timed = &self.calls[call];
        // Only the begins count, so that it is the same in whichever order the calls were taken: `seen` relies on that.
        let floor = self.floor.max(timed.invoked);
        if floor > until || (after != self.state && !timed.can_change(floor, until)) {
            return false;
        }
        self.done.set(call);
        if !self.seen.insert((self.done.clone(), after.clone())) {
            self.done.clear(call);
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        let floor = std::mem::replace(&mut self.floor, floor);
        self.taken.push(Taken { call, before, floor, is_forced: false, resume });
        true
    }

    /// A read may be put in order before its time, so it does not raise the floor; what follows from reads alone needs no
    /// memory of its own.
    fn take_read(&mut self, call: usize, resume: Place) -> bool {
        self.done.set(call);
        self.taken.push(Taken { call, before: self.state.clone(), floor: self.floor, is_forced: true, resume });
        true
    }

    /// Undoes the last choice; gives the place after it, where the search goes on.
    fn take_back(&mut self) -> Option<Place> {
        loop {
            let Taken { call, before, floor, is_forced, resume } = self.taken.pop()?;
            (self.state, self.floor) = (before, floor);
            self.done.clear(call);
            let (begin, end) = self.places[call];
            match resume {
                Place::Listed(_) => {
                    self.list.relink(end);
                    self.list.relink(begin);
                    self.due += 1;
                }
                Place::Open(..) => self.open[begin].is_taken = false,
            }
            if !is_forced {
                return Some(resume);
            }
        }
    }

    /// The first return: no call that begins later may be put in order next. `None` when an equal call is as ready and returns
    /// sooner: there is no telling them apart, and in every order in which this one comes first they could change places.
    fn first_return_for(&self, call: usize) -> Option<usize> {
        let timed = &self.calls[call];
        let by = self.floor.max(timed.invoked);
        let mut at = self.list.first();
        loop {
            match self.list.entries[at].what {
                Entry::Begin(other) => {
                    let twin = &self.calls[other];
                    if twin.returned < timed.returned && twin.invoked <= by && twin.call == timed.call {
                        return None;
                    }
                    at = self.list.entries[at].next;
                }
                Entry::Return(first) => return self.calls[first].returned,
                Entry::Edge => return Some(usize::MAX),
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Entry {
    Begin(usize),
    Return(usize),
    Edge,
}

struct Node {
    what: Entry,
    next: usize,
    previous: usize,
}

/// A ring whose entry 0 is the edge. Entries are put back in the reverse order of their removal.
struct List {
    entries: Vec<Node>,
}

impl List {
    fn of(whats: impl Iterator<Item = Entry>) -> List {
        let mut entries: Vec<Node> = std::iter::once(Entry::Edge)
            .chain(whats)
            .enumerate()
            .map(|(at, what)| Node { what, next: at + 1, previous: at.saturating_sub(1) })
            .collect();
        let last = entries.len() - 1;
        entries[last].next = 0;
        entries[0].previous = last;
        List { entries }
    }

    fn first(&self) -> usize {
        self.entries[0].next
    }

    fn unlink(&mut self, at: usize) {
        let Node { next, previous, .. } = self.entries[at];
        self.entries[previous].next = next;
        self.entries[next].previous = previous;
    }

    fn relink(&mut self, at: usize) {
        let Node { next, previous, .. } = self.entries[at];
        self.entries[previous].next = at;
        self.entries[next].previous = at;
    }
}

/// A set of calls. Calls are put in order nearly in the order of their begins, so full words at the start are only counted.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Bits {
    full: usize,
    words: std::collections::VecDeque<u64>,
}

impl Bits {
    fn set(&mut self, bit: usize) {
        let Some(word) = (bit / 64).checked_sub(self.full) else { return };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (bit % 64);
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.full += 1;
        }
    }

    fn clear(&mut self, bit: usize) {
        while bit / 64 < self.full {
            self.words.push_front(u64::MAX);
            self.full -= 1;
        }
        if let Some(word) = self.words.get_mut(bit / 64 - self.full) {
            *word &= !(1 << (bit % 64));
        }
        while self.words.back() == Some(&0) {
            self.words.pop_back();
        }
    }
}
