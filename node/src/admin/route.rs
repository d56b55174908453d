//! Owns how a route is written down, of this API and of a site's own. Does not know which there are. Invariant: what a route may answer stands in it.

use actix_web::Resource;
use actix_web::dev::ServiceRequest;
use actix_web::web;
use proto::command::Role;
use std::collections::BTreeSet;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }

    pub fn is_write(self) -> bool {
        self != Method::Get
    }
}

/// A type of a body, and the types that it uses.
pub struct Shape {
    pub name: String,
    pub schema: RefOr<Schema>,
    pub uses: Vec<(String, RefOr<Schema>)>,
}

impl Shape {
    pub fn of<T: ToSchema>() -> Shape {
        let mut uses = Vec::new();
        T::schemas(&mut uses);
        Shape { name: T::name().into_owned(), schema: T::schema(), uses }
    }
}

/// What stands in the body of a success.
pub enum Content {
    Json(Box<Shape>),
    /// Of these types, as the query asks.
    Other(&'static [&'static str]),
    Nothing,
}

/// One route. `A`: who may use it.
pub struct Route<A = Role> {
    pub method: Method,
    pub path: &'static str,
    pub access: A,
    /// The command that does the same, e.g. `nodes list`.
    pub words: &'static str,
    /// One sentence.
    pub about: &'static str,
    pub handler: fn() -> actix_web::Route,
    pub query: Vec<Parameter>,
    pub body: Option<Shape>,
    pub success: (u16, Content),
    also: Vec<u16>,
    /// The answer holds a secret: it is not kept for those who repeat the request.
    pub is_secret: bool,
    /// It is done once under a key by what it does: nothing else needs to remember that.
    pub is_once: bool,
    /// Whether the audit log tells of it; `None`: nobody has decided, and it does.
    pub audit: Option<bool>,
    /// Somebody's password stands in the body.
    pub has_password: bool,
}

impl<A> Route<A> {
    fn new(
        method: Method,
        path: &'static str,
        access: A,
        words: &'static str,
        about: &'static str,
        handler: fn() -> actix_web::Route,
    ) -> Route<A> {
        let (query, also) = (Vec::new(), Vec::new());
        let success = (204, Content::Nothing);
        Route {
            method,
            path,
            access,
            words,
            about,
            handler,
            query,
            body: None,
            success,
            also,
            is_secret: false,
            is_once: false,
            audit: None,
            has_password: false,
        }
    }

    pub fn get(
        path: &'static str,
        access: A,
        words: &'static str,
        about: &'static str,
        handler: fn() -> actix_web::Route,
    ) -> Route<A> {
        Route::new(Method::Get, path, access, words, about, handler)
    }

    pub fn post(
        path: &'static str,
        access: A,
        words: &'static str,
        about: &'static str,
        handler: fn() -> actix_web::Route,
    ) -> Route<A> {
        Route::new(Method::Post, path, access, words, about, handler)
    }

    pub fn put(
        path: &'static str,
        access: A,
        words: &'static str,
        about: &'static str,
        handler: fn() -> actix_web::Route,
    ) -> Route<A> {
        Route::new(Method::Put, path, access, words, about, handler)
    }

    pub fn delete(
        path: &'static str,
        access: A,
        words: &'static str,
        about: &'static str,
        handler: fn() -> actix_web::Route,
    ) -> Route<A> {
        Route::new(Method::Delete, path, access, words, about, handler)
    }

    pub fn query<T: IntoParams>(mut self) -> Route<A> {
        self.query = T::into_params(|| Some(ParameterIn::Query));
        self
    }

    pub fn takes<T: ToSchema>(mut self) -> Route<A> {
        let shape = Shape::of::<T>();
        let types = std::iter::once(&shape.schema).chain(shape.uses.iter().map(|(_, schema)| schema));
        let is_password = |schema: &RefOr<Schema>| {
            serde_json::to_string(schema).is_ok_and(|text| text.contains("\"format\":\"password\""))
        };
        self.has_password = types.into_iter().any(is_password);
        self.body = Some(shape);
        self
    }

    pub fn answers<T: ToSchema>(mut self, status: u16) -> Route<A> {
        self.success = (status, Content::Json(Box::new(Shape::of::<T>())));
        self
    }

    pub fn sends(mut self, types: &'static [&'static str]) -> Route<A> {
        self.success = (200, Content::Other(types));
        self
    }

    /// Refusals that do not follow from the rest.
    pub fn also(mut self, statuses: &[u16]) -> Route<A> {
        self.also.extend_from_slice(statuses);
        self
    }

    pub fn once(mut self) -> Route<A> {
        self.is_once = true;
        self
    }

    pub fn secret(mut self) -> Route<A> {
        self.is_secret = true;
        self
    }

    /// An administrative act: the audit log has it before it is done.
    pub fn audited(mut self) -> Route<A> {
        self.audit = Some(true);
        self
    }

    /// The daily work of those who talk with visitors: sessions tell of it themselves.
    pub fn daily(mut self) -> Route<A> {
        self.audit = Some(false);
        self
    }

    /// Whether the audit log tells of it: of every write that nobody has called daily work.
    pub fn is_audited(&self) -> bool {
        self.method.is_write() && self.audit != Some(false)
    }

    /// Names in braces.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> + use<A> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Every status of a refusal.
    pub fn refusals(&self) -> BTreeSet<u16> {
        let mut statuses: BTreeSet<u16> = [401, 403, 503].into_iter().chain(self.also.iter().copied()).collect();
        if self.path_parameters().next().is_some() {
            statuses.insert(404);
        }
        if !self.query.is_empty() {
            statuses.insert(400);
        }
        if self.method.is_write() {
            // Of the `Idempotency-Key`: malformed, under way or secret, used for another request.
            statuses.extend([400, 409, 413, 422]);
        }
        if self.body.is_some() {
            statuses.insert(415);
        }
        statuses
    }
}

/// The route that a request is for; `None`: its path has it not under this method.
pub fn of_request<'a, A>(table: &'a [Route<A>], request: &ServiceRequest) -> Option<&'a Route<A>> {
    let pattern = request.match_pattern();
    let is_it =
        |route: &&Route<A>| Some(route.path) == pattern.as_deref() && route.method.name() == request.method().as_str();
    table.iter().find(is_it)
}

/// A resource for each path of a table, in its order, with all methods of the path.
pub fn resources<A>(table: &[Route<A>]) -> Vec<Resource> {
    let mut paths: Vec<&'static str> = Vec::new();
    for route in table {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    let resource = |path| {
        let mut resource = web::resource(path);
        let mut methods = Vec::new();
        for route in table.iter().filter(|route| route.path == path) {
            resource = resource.route((route.handler)());
            methods.push(route.method.name());
        }
        resource.default_service(super::only(methods))
    };
    paths.into_iter().map(resource).collect()
}

/// As it stands in documents, bodies and commands.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// For tests: the guide of that name holds a row for each route, whose middle `cells` writes.
#[cfg(test)]
pub fn guide_holds<A>(guide: &str, table: &[Route<A>], cells: impl Fn(&Route<A>) -> String) {
    let row = |route: &Route<A>| {
        let refusals: Vec<String> = route.refusals().iter().map(u16::to_string).collect();
        let (method, success) = (route.method.name(), route.success.0);
        format!("| {method} | `{}` | {} | {success} | {} |\n", route.path, cells(route), refusals.join(" "))
    };
    let rows: String = table.iter().map(row).collect();
    let path = format!("{}/../docs/{guide}", env!("CARGO_MANIFEST_DIR"));
    assert!(std::fs::read_to_string(path).unwrap().contains(&rows), "docs/{guide} must hold:\n{rows}");
}

/// For tests: a name of the document is that of one form; of two, one would stand in the other's place.
#[cfg(test)]
pub fn names_are_of_one_form<A>(table: &[Route<A>]) {
    let mut known: std::collections::BTreeMap<&str, String> = std::collections::BTreeMap::new();
    for route in table {
        let told = if let Content::Json(shape) = &route.success.1 { Some(shape.as_ref()) } else { None };
        for shape in route.body.iter().chain(told) {
            let own = std::iter::once((&shape.name, &shape.schema));
            for (name, schema) in own.chain(shape.uses.iter().map(|(name, schema)| (name, schema))) {
                let text = serde_json::to_string(schema).unwrap();
                assert_eq!(known.entry(name).or_insert_with(|| text.clone()), &text, "{name}: say `as`");
            }
        }
    }
}
