//! Stored and sent bytes are the golden ones, and every variant has some.

use crate::{archive, audit, emails, golden, samples, webhooks};
use bincode::Decode;
use proto::act::Act;
use proto::archive::ArchiveChange;
use proto::audit::AuditPhase;
use proto::codec::CodecError;
use proto::command::{Command, EventBody, Mail, MetaCommand, Party};
use proto::email::EmailChange;
use proto::peer::{Page, Push, Refused};
use proto::webhook::WebhookChange;
use std::collections::BTreeSet;

#[test]
fn every_type_is_written_as_its_golden_bytes() {
    for kind in samples::kinds() {
        golden::check(&format!("{:03}-{}.txt", kind.tag, kind.name), &kind.samples);
        for (name, bytes) in &kind.samples {
            assert_eq!(bytes[0], kind.tag, "{name}");
        }
    }
}

/// Variants of an enum: the first number that its decoder does not know.
fn variants(is_unknown: impl Fn(u8) -> bool) -> usize {
    (0..250).find(|number| is_unknown(*number)).map(usize::from).unwrap()
}

fn variants_of<T: Decode<()>>() -> usize {
    variants(|number| {
        let bytes = [&[number][..], &[0; 400]].concat();
        let read: Result<(T, usize), _> = bincode::decode_from_slice(&bytes, bincode::config::standard());
        matches!(read, Err(bincode::error::DecodeError::UnexpectedVariant { .. }))
    })
}

#[test]
fn every_variant_has_its_golden_bytes() {
    assert_eq!(samples::parties().len(), variants_of::<Party>());
    // One command for each change of a webhook, of the archive and of e-mails, and for each phase of an act.
    let more = webhooks::commands().len()
        + audit::command_samples().len()
        + archive::commands().len()
        + emails::command_samples().len()
        - 4;
    assert_eq!(samples::commands().len() - more, variants_of::<Command>());
    assert_eq!(audit::command_samples().len(), variants_of::<AuditPhase>());
    assert_eq!(webhooks::commands().len(), variants_of::<WebhookChange>());
    assert_eq!(archive::commands().len(), variants_of::<ArchiveChange>());
    assert_eq!(emails::command_samples().len(), variants_of::<EmailChange>());
    assert_eq!(samples::mails().len(), variants_of::<Mail>());
    assert_eq!(samples::acts().len(), variants_of::<Act>());
    // One body for each act.
    assert_eq!(samples::bodies().len() + 1 - samples::acts().len(), variants_of::<EventBody>());
    assert_eq!(samples::meta_commands().len(), variants_of::<MetaCommand>());
    assert_eq!(samples::pages().len(), variants_of::<Page>());
    assert_eq!(samples::refusals().len(), variants_of::<Refused>());
    assert_eq!(samples::pushes().len(), variants_of::<Push>());
    for kind in samples::kinds() {
        let unknown = |number| {
            let bytes = [&[kind.tag, number][..], &[0; 400]].concat();
            matches!((kind.decode)(&bytes), Err(CodecError::Invalid(error)) if error.starts_with("UnexpectedVariant"))
        };
        // A struct takes any first byte, or refuses it for another reason.
        if (0..250).any(unknown) {
            let seen: BTreeSet<u8> = kind.samples.iter().map(|(_, bytes)| bytes[1]).collect();
            assert_eq!(
                seen.into_iter().map(usize::from).collect::<Vec<_>>(),
                (0..variants(unknown)).collect::<Vec<_>>()
            );
        }
    }
}
