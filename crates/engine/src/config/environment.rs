//! The environment: every flag has a variable of ours, and llama-server's if it has the flag too.

/// The variables of llama-server for the flags that it has as well.
pub(super) const LLAMA_SERVER_VARIABLES: &[(&str, &str)] = &[
    ("model", "LLAMA_ARG_MODEL"),
    ("alias", "LLAMA_ARG_ALIAS"),
    ("chat_template", "LLAMA_ARG_CHAT_TEMPLATE"),
    ("chat_template_file", "LLAMA_ARG_CHAT_TEMPLATE_FILE"),
    ("ctx_size", "LLAMA_ARG_CTX_SIZE"),
    ("threads", "LLAMA_ARG_THREADS"),
    ("cache_type", "LLAMA_ARG_CACHE_TYPE_K"),
    ("ubatch_size", "LLAMA_ARG_UBATCH"),
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

/// clap knows one variable for each flag: take the one that is set, ours first. A variable that
/// is set to nothing (as `${MODEL:-}` in a compose file does) counts as not set.
pub fn with_environment(argument: clap::Arg) -> clap::Arg {
    let id = argument.get_id().as_str().to_owned();
    let ours = format!("BITNET_{}", id.to_uppercase());
    let theirs = LLAMA_SERVER_VARIABLES.iter().find(|(flag, _)| *flag == id).map(|(_, variable)| *variable);
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
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
