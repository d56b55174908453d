//! Owns arbitrary commands of the desk, and what they carry. Invariant: every variant and every field can come.

use super::arbitrary::{agent, party, session, site, text, word};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::act::{Act, Whose};
use proto::command::{Carried, Command, Mail};
use proto::desk::*;
use proto::ids::*;
use proto::peer::{PlaceInQueue, Waiting};

pub fn command() -> impl Strategy<Value = Command> {
    let answer = (0..3_u8, site(), agent(), session(), any::<u64>());
    prop_oneof![
        (site(), team(), option::of(team_rules())).prop_map(|(site, team, rules)| Command::PutTeam {
            site,
            team,
            rules
        }),
        (site(), agent(), seat_rules()).prop_map(|(site, agent, rules)| Command::PutSeat { site, agent, rules }),
        (site(), site_rules()).prop_map(|(site, rules)| Command::PutSite { site, rules }),
        answer.prop_map(|(how, site, agent, session, conversation)| match how {
            0 => Command::Accept { site, agent, session, offer: conversation },
            1 => Command::Decline { site, agent, session, offer: conversation },
            _ => Command::Take { site, agent, session, conversation },
        }),
        (agent(), seat_state()).prop_map(|(agent, state)| Command::AgentState { agent, state }),
        Just(Command::Tick),
        (session(), about()).prop_map(|(session, about)| Command::About { session, about }),
        (session(), party(), any::<u64>(), option::of(team())).prop_map(|(session, by, seen, team)| Command::Release {
            session,
            by,
            seen,
            team
        }),
        (site(), agent(), session(), any::<(u64, u64)>(), agent()).prop_map(
            |(site, agent, session, (conversation, part), to)| {
                Command::Hand { site, agent, session, conversation, part, to }
            }
        ),
        (session(), option::of(site()), party(), (word(), any::<u64>(), word()), act()).prop_map(
            |(session, site, from, (device, n, cid), act)| Command::Act { session, site, from, device, n, cid, act }
        ),
        (agent(), session(), any::<u64>()).prop_map(|(agent, session, seq)| Command::Dismiss { agent, session, seq }),
        (site(), option::of(any::<u64>())).prop_map(|(site, closed)| Command::Hours { site, closed }),
    ]
}

pub fn act() -> impl Strategy<Value = Act> {
    let seq = any::<u64>;
    prop_oneof![
        (text(), vec(agent(), 0..4)).prop_map(|(text, mentions)| Act::Note { text, mentions }),
        (seq(), text()).prop_map(|(seq, text)| Act::Edit { seq, text }),
        seq().prop_map(|seq| Act::Recall { seq }),
        (seq(), word(), any::<bool>()).prop_map(|(seq, emoji, on)| Act::React { seq, emoji, on }),
        (word(), any::<bool>()).prop_map(|(label, on)| Act::Label { label, on }),
        any::<(u64, u64)>().prop_map(|(conversation, until_ms)| Act::Snooze { conversation, until_ms }),
        any::<u64>().prop_map(|conversation| Act::Reopen { conversation }),
        (any::<u64>(), any::<u8>(), word()).prop_map(|(conversation, score, comment)| Act::Rate {
            conversation,
            score,
            comment
        }),
        (any::<bool>(), word(), option::of(word())).prop_map(|(visitor, name, value)| {
            let whose = if visitor { Whose::Visitor } else { Whose::Conversation };
            Act::Attribute { whose, name, value }
        }),
        (session(), seq()).prop_map(|(session, upto)| Act::Merge { session, upto }),
        (word(), option::of(word()), text()).prop_map(|(trigger, name, text)| Act::Prompt { trigger, name, text }),
        (text(), any::<u64>()).prop_map(|(text, until_ms)| Act::Invite { text, until_ms }),
        seq().prop_map(|seq| Act::Decline { seq }),
    ]
}

pub fn mail() -> impl Strategy<Value = Mail> {
    prop_oneof![
        (site(), session(), any::<u64>()).prop_map(|(site, session, turn)| Mail::Returned { site, session, turn }),
        (site(), session(), any::<(u64, u64)>(), ask()).prop_map(|(site, session, (conversation, part), ask)| {
            Mail::Requeued { site, session, conversation, part, ask }
        }),
        (session(), any::<(u64, u64, u64)>(), agent(), agent()).prop_map(
            |(session, (conversation, part, turn), from, agent)| {
                Mail::Handed { session, conversation, part, from, agent, turn }
            }
        ),
        agent().prop_map(|agent| Mail::Absent { agent }),
        (session(), session(), site(), any::<u64>(), carried())
            .prop_map(|(session, from, site, upto, carried)| { Mail::Merged { session, from, site, upto, carried } }),
        (site(), word(), any::<bool>()).prop_map(|(site, trigger, answered)| Mail::Prompted {
            site,
            trigger,
            answered
        }),
        (agent(), site(), session(), any::<u64>()).prop_map(|(agent, site, session, seq)| Mail::Mentioned {
            agent,
            site,
            session,
            seq
        }),
        (session(), any::<u64>(), agent()).prop_map(|(session, conversation, agent)| Mail::Release {
            session,
            conversation,
            agent
        }),
    ]
}

fn carried() -> impl Strategy<Value = Box<Carried>> {
    let pairs = vec((word(), word()), 0..4);
    let whole = (pairs, about(), option::of(agent()), any::<(bool, Option<u64>, bool)>());
    whole.prop_map(|(attributes, about, agent, (is_open, blocked_ms, unsubscribed))| {
        Box::new(Carried { attributes, about, agent, is_open, blocked_ms, unsubscribed })
    })
}

fn about() -> impl Strategy<Value = About> {
    let whole = (option::of(team()), vec((word(), word()), 0..4), any::<u8>());
    whole.prop_map(|(team, facts, channel)| About { team, facts, channel: Channel(channel) })
}

fn team() -> impl Strategy<Value = TeamId> {
    any::<u32>().prop_map(TeamId)
}

pub fn seat_state() -> impl Strategy<Value = SeatState> {
    prop_oneof![Just(SeatState::Offline), Just(SeatState::Online), Just(SeatState::Busy), Just(SeatState::Away)]
}

fn team_rules() -> impl Strategy<Value = TeamRules> {
    (text(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(name, accept_ms, helps, hashed)| TeamRules {
        name,
        accept_ms,
        helps,
        hashed,
    })
}

fn seat_rules() -> impl Strategy<Value = SeatRules> {
    let channels = vec((any::<u8>().prop_map(Channel), any::<u32>()), 0..4);
    (any::<u32>(), channels, vec(team(), 0..4), vec(word(), 0..4))
        .prop_map(|(capacity, channels, teams, skills)| SeatRules { capacity, channels, teams, skills })
}

fn site_rules() -> impl Strategy<Value = SiteRules> {
    let test = prop_oneof![
        vec(word(), 0..4).prop_map(Test::Is),
        word().prop_map(Test::StartsWith),
        word().prop_map(Test::Contains)
    ];
    let when = vec((word(), test).prop_map(|(fact, test)| Condition { fact, test }), 0..4);
    let route = (when, option::of(team()), vec(word(), 0..4), any::<u8>());
    let route = route.prop_map(|(when, team, skills, priority)| Route { when, team, skills, priority });
    let routes = vec(route, 0..4);
    (routes, any::<(u64, u64)>(), option::of(hours())).prop_map(|(routes, (sticky_ms, requeue_ms), hours)| SiteRules {
        routes,
        sticky_ms,
        requeue_ms,
        hours,
    })
}

fn hours() -> impl Strategy<Value = Hours> {
    let stretch = || any::<(u16, u16)>().prop_map(|(from, to)| Stretch { from, to });
    let week = vec((any::<u8>().prop_map(Weekday), stretch()), 0..4);
    let day = (any::<u32>(), vec(stretch(), 0..3)).prop_map(|(date, open)| Day { date, open });
    (word(), week, vec(day, 0..4)).prop_map(|(zone, week, days)| Hours { zone, week, days })
}

pub fn waiting() -> impl Strategy<Value = Waiting> {
    (session(), any::<(u64, u64)>(), team(), any::<u8>()).prop_map(
        |(session, (conversation, since_ms), team, priority)| Waiting {
            session,
            conversation,
            team,
            priority,
            since_ms,
        },
    )
}

pub fn place() -> impl Strategy<Value = PlaceInQueue> {
    (session(), any::<u64>(), any::<(Option<u64>, Option<u64>)>())
        .prop_map(|(session, position, (wait_ms, opens_ms))| PlaceInQueue { session, position, wait_ms, opens_ms })
}

pub fn ask() -> impl Strategy<Value = Box<Ask>> {
    let facts = vec((word(), word()), 0..4);
    let last = option::of((agent(), any::<u64>()));
    let whole = (option::of(team()), facts, vec(word(), 0..4), any::<(u8, u8)>(), last, agents());
    whole.prop_map(|(team, facts, skills, (channel, priority), last, (but, back))| {
        Box::new(Ask { team, facts, skills, channel: Channel(channel), priority, last, but, back })
    })
}

fn agents() -> impl Strategy<Value = (Option<AgentId>, Option<AgentId>)> {
    (option::of(agent()), option::of(agent()))
}
