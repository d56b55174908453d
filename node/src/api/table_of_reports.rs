//! Owns the part of the table of routes that is about reports. See `table`.

use super::access::{Access, Scope};
use super::{report_rows, reports};
use crate::admin::Route;
use actix_web::web;
use proto::command::AgentRole::Viewer;

pub fn of_reports() -> Vec<Route<Access>> {
    // What colleagues do is for those who lead them, or only look on.
    let read = Access::new(Viewer, Scope::ReadReports).but_agents();
    vec![
        Route::get(
            "/v1/reports/summary",
            read,
            "reports summary",
            "What happened at the site, in figures, as JSON or CSV",
            || web::get().to(reports::summary),
        )
        .query::<reports::ReportQuery>()
        .answers::<report_rows::ReportView>(200),
    ]
}
