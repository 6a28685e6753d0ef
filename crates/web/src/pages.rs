//! The page, from its template. It is the same for everybody, so it is rendered once.

use askama::Template;

use crate::assets::{self, Asset};

#[derive(Template)]
#[template(path = "chat.html")]
struct Chat {
    stylesheet: String,
    script: String,
    icon: String,
}

/// `GET /`.
pub fn chat() -> askama::Result<Asset> {
    let url = |name| assets::find(name).map(Asset::url).unwrap_or_default();
    let page = Chat { stylesheet: url("chat.css"), script: url("chat.js"), icon: url("icon.svg") };
    Ok(Asset::new("", "text/html; charset=utf-8", page.render()?))
}
