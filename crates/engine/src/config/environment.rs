//! The environment: every flag has a variable of ours, and the one that other programs use for the same if there is one.

use std::ffi::OsString;
use std::net::SocketAddr;

/// The variables of llama-server, and those of the hub's own tools, for the flags that they have as well.
pub(super) const ESTABLISHED_VARIABLES: &[(&str, &str)] = &[
    ("model", "LLAMA_ARG_MODEL"),
    ("hf_endpoint", "HF_ENDPOINT"),
    ("hf_token", "HF_TOKEN"),
    ("hf_home", "HF_HOME"),
    ("hf_hub_cache", "HF_HUB_CACHE"),
    ("alias", "LLAMA_ARG_ALIAS"),
    ("chat_template", "LLAMA_ARG_CHAT_TEMPLATE"),
    ("chat_template_file", "LLAMA_ARG_CHAT_TEMPLATE_FILE"),
    ("ctx_size", "LLAMA_ARG_CTX_SIZE"),
    ("threads", "LLAMA_ARG_THREADS"),
    ("cache_type", "LLAMA_ARG_CACHE_TYPE_K"),
    ("ubatch_size", "LLAMA_ARG_UBATCH"),
    ("parallel", "LLAMA_ARG_N_PARALLEL"),
    ("host", "LLAMA_ARG_HOST"),
    ("port", "LLAMA_ARG_PORT"),
    ("sse_ping_interval", "LLAMA_ARG_SSE_PING_INTERVAL"),
    ("api_key", "LLAMA_API_KEY"),
    ("cors_origins", "LLAMA_ARG_CORS_ORIGINS"),
    ("n_predict", "LLAMA_ARG_N_PREDICT"),
    ("temp", "LLAMA_ARG_TEMPERATURE"),
    ("top_k", "LLAMA_ARG_TOP_K"),
    ("top_p", "LLAMA_ARG_TOP_P"),
    ("min_p", "LLAMA_ARG_MIN_P"),
    ("repeat_penalty", "LLAMA_ARG_REPEAT_PENALTY"),
    ("presence_penalty", "LLAMA_ARG_PRESENCE_PENALTY"),
    ("frequency_penalty", "LLAMA_ARG_FREQUENCY_PENALTY"),
];

/// clap knows one variable for each flag: take the one that is set, ours first. A variable that is set to nothing (as
/// `${MODEL:-}` in a compose file does) counts as not set, and so does one that an orchestrator has set to tell where a
/// service is ([`service_links`]).
pub fn with_environment(argument: clap::Arg) -> clap::Arg {
    let id = argument.get_id().as_str().to_owned();
    let (ours, theirs) = variables(&id);
    let free = takes_any_text(&argument);
    let is_set = |name: &str| {
        std::env::var_os(name).is_some_and(|value| !value.is_empty() && (free || !is_service_link(&value)))
    };
    let names = theirs.map_or_else(|| ours.clone(), |theirs| format!("{ours} or {theirs}"));
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let argument = argument.help(format!("{help} [env: {names}]")).hide_env(true);
    match theirs {
        // clap wants a name that lives for ever; there is one of these for each flag, once.
        _ if is_set(&ours) => argument.env(&*ours.leak()),
        Some(theirs) if is_set(theirs) => argument.env(theirs),
        _ => argument,
    }
}

/// What to tell about each variable of these flags that is set to a service's address instead of a setting: for a Service
/// named `bitnet`, Kubernetes puts `BITNET_PORT=tcp://10.0.0.7:11434` into every container beside it, and so does Docker for
/// a legacy link.
#[must_use]
pub fn service_links(command: &clap::Command) -> Vec<String> {
    let settings = command.get_arguments().filter(|argument| !takes_any_text(argument));
    let names = settings.flat_map(|argument| {
        let (ours, theirs) = variables(argument.get_id().as_str());
        [Some(ours), theirs.map(str::to_owned)].into_iter().flatten()
    });
    let links = names.filter_map(|name| Some((std::env::var_os(&name)?, name)));
    let links = links.filter(|(value, _)| is_service_link(value));
    links
        .map(|(value, name)| {
            format!(
                "{name}={} is not a setting but the address of a service, as Kubernetes and Docker put it into the environment; \
                 it is ignored. Set `enableServiceLinks: false` for the pod, or give the service another name",
                value.display()
            )
        })
        .collect()
}

fn variables(id: &str) -> (String, Option<&'static str>) {
    let theirs = ESTABLISHED_VARIABLES.iter().find(|(flag, _)| *flag == id).map(|(_, variable)| *variable);
    (format!("BITNET_{}", id.to_uppercase()), theirs)
}

/// Settings that may well look like an address, or must not be printed.
fn takes_any_text(argument: &clap::Arg) -> bool {
    argument.is_hide_env_values_set()
        || matches!(
            argument.get_id().as_str(),
            "alias" | "chat_template" | "warm_prompt" | "log_level" | "hf_endpoint"
        )
}

/// Whether a value looks like the `tcp://10.0.0.7:11434` of a Kubernetes service or of one of Docker's old links.
fn is_service_link(value: &OsString) -> bool {
    let value = value.to_str().unwrap_or_default();
    let mut addresses =
        ["tcp://", "udp://", "sctp://"].iter().filter_map(|scheme| value.strip_prefix(scheme));
    addresses.any(|address| address.parse::<SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_a_service_is_a_link() {
        for (value, expected) in [
            ("tcp://10.0.0.7:11434", true),
            ("udp://[fd00::7]:53", true),
            ("tcp://", false),
            ("tcp://secret", false),
            ("11434", false),
            ("http://10.0.0.7:11434", false),
        ] {
            assert_eq!(is_service_link(&value.into()), expected, "{value}");
        }
    }

    #[test]
    fn a_key_is_a_key_whatever_it_looks_like() {
        assert!(takes_any_text(&clap::Arg::new("api_key").hide_env_values(true)));
        assert!(!takes_any_text(&clap::Arg::new("port")));
    }
}
