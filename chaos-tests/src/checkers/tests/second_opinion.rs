//! Owns the comparison of the search with that of the crate `stateright`, on thousands of small histories. Both are told the
//! same object; neither knows the other.

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::world::Dice;
use crate::checkers::holder::{Act, Call, HolderModel, Outcome, Seat, State};
use crate::checkers::wgl::{Answer, Effect, Model, Timed, search};

const HISTORIES: usize = 12_000;
const STEPS_MAX: u64 = 1_000_000;

#[derive(Clone, Debug)]
struct Spec(State);

impl SequentialSpec for Spec {
    type Op = Act;
    type Ret = bool;

    fn invoke(&mut self, act: &Act) -> bool {
        let after = self.0.after(*act);
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    fn is_valid_step(&mut self, act: &Act, is_ok: &bool) -> bool {
        if *is_ok { self.invoke(act) } else { self.0.refuses(*act) }
    }
}

/// One call of a random history.
struct One {
    act: Act,
    invoked: usize,
    returned: Option<(usize, bool)>,
}

/// Calls that begin, take effect and return in a random order; then, often, some answers are turned round.
fn calls(dice: &mut Dice) -> Vec<One> {
    let mut state = State::Idle;
    let mut calls: Vec<(One, Option<bool>)> = Vec::new();
    let count = 3 + dice.roll(6);
    for now in 0..count * 9 {
        let (at, is_full) = (dice.roll(calls.len()), calls.len() >= count);
        match (dice.roll(3), calls.get_mut(at)) {
            (0, _) if !is_full => {
                let seat = Seat(dice.roll(2));
                let acts = [
                    Act::Open,
                    Act::Assign(seat),
                    Act::Move(seat),
                    Act::AgentSend(seat),
                    Act::AgentSend(seat),
                    Act::AgentClose(seat),
                    Act::Close,
                    Act::Release,
                ];
                calls.push((One { act: acts[dice.roll(acts.len())], invoked: now, returned: None }, None));
            }
            (1, Some((one, effect @ None))) => {
                let after = state.after(one.act);
                state = after.unwrap_or(state);
                *effect = Some(after.is_some());
            }
            (2, Some((one, Some(is_ok)))) if one.returned.is_none() => one.returned = Some((now, *is_ok)),
            _ => {}
        }
    }
    for (one, _) in &mut calls {
        if let Some((_, is_ok)) = &mut one.returned
            && dice.roll(3) == 0
        {
            *is_ok = !*is_ok;
        }
    }
    calls.into_iter().map(|(one, _)| one).collect()
}

fn ours(calls: &[One]) -> Answer {
    let timed: Vec<_> = calls
        .iter()
        .map(|one| {
            let outcome = match one.returned {
                None => Outcome::Unknown,
                Some((_, true)) => Outcome::Ok,
                Some((_, false)) => Outcome::Refused,
            };
            let returned = one.returned.map(|(at, _)| at);
            Timed { call: Call { act: one.act, outcome }, invoked: one.invoked, returned, effect: Effect::Anytime }
        })
        .collect();
    search(&HolderModel, &timed, STEPS_MAX)
}

fn theirs(calls: &[One]) -> bool {
    let mut tester = LinearizabilityTester::new(Spec(State::Idle));
    let mut moments: Vec<(usize, usize, Option<bool>)> = Vec::new();
    for (thread, one) in calls.iter().enumerate() {
        moments.push((one.invoked, thread, None));
        moments.extend(one.returned.map(|(at, is_ok)| (at, thread, Some(is_ok))));
    }
    moments.sort_unstable();
    for (_, thread, moment) in moments {
        match moment {
            None => tester.on_invoke(thread, calls[thread].act).unwrap(),
            Some(is_ok) => tester.on_return(thread, is_ok).unwrap(),
        };
    }
    tester.is_consistent()
}

#[test]
fn the_search_and_stateright_agree_on_thousands_of_small_histories() {
    let (mut good, mut bad, mut open) = (0, 0, 0);
    for seed in 0..HISTORIES as u64 {
        let calls = calls(&mut Dice(seed));
        let expected = theirs(&calls);
        match ours(&calls) {
            Answer::Linearizable => assert!(expected, "seed {seed}: stateright finds no order"),
            Answer::Not { .. } => assert!(!expected, "seed {seed}: stateright finds an order"),
            Answer::GaveUp => panic!("seed {seed}: so small a history is always decided"),
        }
        open += usize::from(calls.iter().any(|one| one.returned.is_none()));
        if expected { good += 1 } else { bad += 1 }
    }
    println!("{good} good, {bad} bad, {open} with calls that never returned");
    assert!(good > HISTORIES / 5 && bad > HISTORIES / 5 && open > HISTORIES / 5, "{good} good, {bad} bad, {open} open");
}

/// A register: the other user of the search, which keeps it free of what sessions are.
struct Register;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Write(u32),
    Read(u32),
}

impl Model for Register {
    type State = u32;
    type Call = Access;

    fn start(&self) -> u32 {
        0
    }

    fn step(&self, state: &u32, call: &Access) -> Option<u32> {
        match call {
            Access::Write(value) => Some(*value),
            Access::Read(value) => (state == value).then_some(*state),
        }
    }

    fn is_read(&self, call: &Access) -> bool {
        matches!(call, Access::Read(_))
    }
}

fn timed(call: Access, invoked: usize, returned: usize) -> Timed<Access> {
    Timed { call, invoked, returned: Some(returned), effect: Effect::Anytime }
}

#[test]
fn a_register_read_sees_the_last_write_or_one_under_way() {
    let write = Timed { call: Access::Write(7), invoked: 1, returned: None, effect: Effect::Anytime };
    let both = |second| search(&Register, &[write.clone(), timed(Access::Read(7), 2, 3), second], STEPS_MAX);
    assert_eq!(both(timed(Access::Read(7), 4, 5)), Answer::Linearizable);
    assert_eq!(both(timed(Access::Read(0), 2, 5)), Answer::Linearizable);
    assert_eq!(both(timed(Access::Read(0), 4, 5)), Answer::Not { stuck: 2 });
}

#[test]
fn an_effect_that_can_only_lie_elsewhere_is_not_used() {
    let write = |times: &[(usize, usize)]| Timed {
        call: Access::Write(7),
        invoked: 1,
        returned: None,
        effect: Effect::Within(times.into()),
    };
    let read = timed(Access::Read(7), 5, 6);
    assert_eq!(search(&Register, &[write(&[(2, 3)]), read.clone()], STEPS_MAX), Answer::Linearizable);
    assert_eq!(search(&Register, &[write(&[(7, 9)]), read.clone()], STEPS_MAX), Answer::Not { stuck: 1 });
    assert_eq!(search(&Register, &[write(&[]), read], STEPS_MAX), Answer::Not { stuck: 1 });
}
