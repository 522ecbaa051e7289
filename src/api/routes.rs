//! The one table of routes, and the router that is built from it: a route without a scope cannot exist.

use super::{
    ApiState,
    auth::{self, Scope},
    codes::Code,
    confirms, history, list, payouts,
    problem::Problem,
};
use axum::{
    Router,
    http::Method,
    middleware::from_fn_with_state,
    routing::{MethodFilter, MethodRouter, on},
};

/// A route, with the scope that a key needs for it.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub scope: Scope,
    handler: fn(MethodFilter) -> MethodRouter<ApiState>,
}

pub static ALL: [Route; 9] = [
    Route {
        method: Method::POST,
        path: "/v1/payouts",
        scope: Scope::Write,
        handler: |method| on(method, payouts::create),
    },
    Route {
        method: Method::GET,
        path: "/v1/payouts",
        scope: Scope::Read,
        handler: |method| on(method, list::list),
    },
    Route {
        method: Method::GET,
        path: "/v1/payouts/{payout}",
        scope: Scope::Read,
        handler: |method| on(method, payouts::get),
    },
    Route {
        method: Method::GET,
        path: "/v1/payouts/{payout}/history",
        scope: Scope::Read,
        handler: |method| on(method, history::history),
    },
    Route {
        method: Method::POST,
        path: "/v1/payouts/{payout}/cancel",
        scope: Scope::Write,
        handler: |method| on(method, payouts::cancel),
    },
    Route {
        method: Method::POST,
        path: "/v1/payouts/{payout}/approve",
        scope: Scope::Approve,
        handler: |method| on(method, payouts::approve),
    },
    Route {
        method: Method::POST,
        path: "/v1/payouts/{payout}/reject",
        scope: Scope::Approve,
        handler: |method| on(method, payouts::reject),
    },
    Route {
        method: Method::GET,
        path: "/v1/confirms",
        scope: Scope::Operate,
        handler: |method| on(method, confirms::get),
    },
    Route {
        method: Method::PUT,
        path: "/v1/confirms",
        scope: Scope::Operate,
        handler: |method| on(method, confirms::put),
    },
];

/// Every route behind its scope. Whoever uses it puts the authentication in front.
pub(super) fn router() -> Router<ApiState> {
    let routes = ALL.iter().fold(Router::new(), |router, route| {
        let method =
            MethodFilter::try_from(route.method.clone()).expect("the table has standard methods only");
        let guarded = (route.handler)(method).route_layer(from_fn_with_state(route.scope, auth::require));
        router.route(route.path, guarded)
    });
    routes.fallback(no_such_route).method_not_allowed_fallback(method_not_allowed)
}

async fn no_such_route() -> Problem {
    Problem::new(Code::NoSuchRoute, "There is nothing at this path.")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "The methods of this path are in the header Allow.")
}
