//! Owns the tests of the table of routes: names, documents, decisions. Does not ask a node.

use super::super::route::{guide_holds, names_are_of_one_form, role_name};
use super::*;
use std::collections::BTreeSet;

#[test]
fn every_route_has_a_command_and_a_method_of_its_own() {
    let table = table();
    let words: BTreeSet<&str> = table.iter().map(|route| route.words).collect();
    let places: BTreeSet<(&str, &str)> = table.iter().map(|route| (route.path, route.method.name())).collect();
    assert_eq!((words.len(), places.len()), (table.len(), table.len()));
    assert!(table.iter().all(|route| route.words.split(' ').count() == 2 && route.path.starts_with("/admin/v1/")));
}

#[test]
fn no_two_forms_of_the_document_have_one_name() {
    names_are_of_one_form(&table());
}

#[test]
fn the_guide_holds_the_table_of_routes() {
    guide_holds("ADMIN.md", &table(), |route| format!("{} | `{}`", role_name(route.access), route.words));
}

#[test]
fn somebody_has_decided_of_every_write_whether_the_audit_log_tells_of_it() {
    for route in table() {
        assert_eq!(route.audit.is_some(), route.method.is_write(), "{} {}", route.method.name(), route.path);
        assert!(!route.method.is_write() || route.is_audited(), "{}: operators have no daily work", route.path);
    }
    let passwords: Vec<&str> = table().iter().filter(|route| route.has_password).map(|route| route.path).collect();
    assert_eq!(passwords, ["/admin/v1/agents"], "their bodies are not hashed");
}

#[test]
fn only_reads_are_for_viewers() {
    assert!(table().iter().all(|route| !route.method.is_write() || route.access > Viewer));
}

#[test]
fn the_document_holds_every_route_with_every_status() {
    let document = serde_json::to_value(super::super::openapi::document()).unwrap();
    for route in table() {
        let operation = &document["paths"][route.path][route.method.name().to_lowercase()];
        let mut statuses: BTreeSet<u16> = route.refusals();
        statuses.insert(route.success.0);
        let told = operation["responses"].as_object().unwrap_or_else(|| panic!("{} {operation}", route.path));
        assert_eq!(told.keys().map(|status| status.parse().unwrap()).collect::<BTreeSet<u16>>(), statuses);
    }
}
