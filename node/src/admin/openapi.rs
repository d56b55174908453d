//! Owns the OpenAPI documents, made from the tables of routes. Does not serve it.
//! Invariant: every route stands in it with every status that it may answer.

use super::problem::{PROBLEM_JSON, Problem};
use super::route::{Content as Success, Method, Route, Shape, role_name};
use super::{once, table};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItemBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Required,
    ResponseBuilder, Schema,
};

/// The document of the admin API.
pub fn document() -> OpenApi {
    let about = "Each route names the least role of the token that it needs. See docs/ADMIN.md.";
    of_table("Everdesk admin API", about, &table(), |route| format!("Least role: {}.", role_name(route.access)))
}

/// The document of a table. `needs`: who may use a route, as a sentence.
pub fn of_table<A>(title: &str, about: &str, table: &[Route<A>], needs: impl Fn(&Route<A>) -> String) -> OpenApi {
    let info = InfoBuilder::new().title(title).version(env!("CARGO_PKG_VERSION")).description(Some(about)).build();
    let mut components = ComponentsBuilder::new().schema(Problem::name(), <Problem as utoipa::PartialSchema>::schema());
    let mut paths = PathsBuilder::new();
    for route in table {
        let shapes = route.body.iter().chain(match &route.success.1 {
            Success::Json(shape) => Some(shape.as_ref()),
            _ => None,
        });
        for shape in shapes {
            components = components.schema(&shape.name, shape.schema.clone());
            components = components.schemas_from_iter(shape.uses.iter().cloned());
        }
        let item = PathItemBuilder::new().operation(http_method(route.method), operation(route, needs(route))).build();
        paths = paths.path(route.path, item);
    }
    let mut components: Components = components.build();
    open_where_others_hold_it(&mut components);
    components
        .add_security_scheme("bearer", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("bearer", Vec::<String>::new())]))
        .build()
}

/// A form that closes itself to unknown fields has more of them where another one holds its fields: it stands there without its lock.
fn open_where_others_hold_it(components: &mut Components) {
    let known = components.schemas.clone();
    for schema in components.schemas.values_mut() {
        let RefOr::T(Schema::AllOf(all)) = schema else { continue };
        for part in &mut all.items {
            let RefOr::Ref(reference) = &*part else { continue };
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            let Some(RefOr::T(Schema::Object(object))) = known.get(name) else { continue };
            let lock = object.additional_properties.as_deref();
            if matches!(lock, Some(AdditionalProperties::FreeForm(false))) {
                let mut open = object.clone();
                open.additional_properties = None;
                *part = RefOr::T(Schema::Object(open));
            }
        }
    }
}

fn http_method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Delete => HttpMethod::Delete,
    }
}

fn operation<A>(route: &Route<A>, needs: String) -> OperationBuilder {
    let tag = route.words.split(' ').next().unwrap_or_default();
    let mut operation = OperationBuilder::new()
        .tag(tag)
        .operation_id(Some(route.words.replace([' ', '-'], "_")))
        .summary(Some(route.about))
        .description(Some(needs));
    for name in route.path_parameters() {
        operation = operation.parameter(path_parameter(name));
    }
    for parameter in &route.query {
        operation = operation.parameter(parameter.clone());
    }
    if route.method.is_write() {
        operation = operation.parameter(key_parameter());
    }
    if let Some(body) = &route.body {
        let content = Content::new(Some(reference(body)));
        let body = RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    let (status, content) = &route.success;
    let mut success = ResponseBuilder::new().description("Done");
    match content {
        Success::Json(shape) => success = success.content("application/json", Content::new(Some(reference(shape)))),
        Success::Other(types) => {
            for kind in *types {
                let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
                success = success.content(*kind, Content::new(Some(text)));
            }
        }
        Success::Nothing => {}
    }
    operation = operation.response(status.to_string(), success.build());
    for status in route.refusals() {
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let mut refusal = ResponseBuilder::new().description(meaning(status)).content(PROBLEM_JSON, content);
        if status == 503 {
            let seconds = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).minimum(Some(1)).build();
            refusal = refusal.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).build());
        }
        operation = operation.response(status.to_string(), refusal.build());
    }
    operation
}

fn reference(shape: &Shape) -> Ref {
    Ref::from_schema_name(&shape.name)
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed",
        401 => "No valid token",
        403 => "The token's role is too small",
        404 => "There is no such thing",
        409 => "It is under way already, or its secret was told",
        413 => "The body is too large",
        415 => "The body is not application/json",
        422 => "The rules say no",
        501 => "This build or machine cannot do it",
        503 => "Not just now: try again",
        _ => "Refused",
    }
}

fn path_parameter(name: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let schema = match name {
        "node" => text.pattern(Some("^n[1-9][0-9]{0,8}$")),
        "shard" => text.pattern(Some("^g(0|[1-9][0-9]{0,8})$")),
        "replica" => text.pattern(Some("^r[1-9][0-9]{0,8}$")),
        "agent" => text.pattern(Some("^a(0|[1-9][0-9]{0,18})$")),
        "team" => text.pattern(Some("^t[1-9][0-9]{0,8}$")),
        "session" => text.pattern(Some("^[0-9a-f]{32}$")),
        "seq" => ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .minimum(Some(1))
            .maximum(Some(1_000_000_000)),
        _ => text.min_length(Some(1)).max_length(Some(64)).pattern(Some("^[A-Za-z0-9_.@-]+$")),
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(schema))
        .build()
}

fn key_parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .min_length(Some(1))
        .max_length(Some(once::KEY_BYTES_MAX))
        .pattern(Some("^[!-~]+$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("A repetition under the same key gets the first answer, at any node, for 24 hours."))
        .schema(Some(schema))
        .build()
}
