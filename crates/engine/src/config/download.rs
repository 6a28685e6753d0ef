//! From where to where models are downloaded: flags → the hub's options.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;
use reqwest::header::HeaderValue;

use super::values::{bearer, endpoint};
use crate::hub;

/// The flags for it.
#[derive(Clone, Debug, Args)]
pub(super) struct DownloadFlags {
    /// Folder for downloaded models [default: `bitnet` in the user's cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    model_dir: Option<PathBuf>,
    /// Where the hub is
    #[arg(long, value_name = "URL", help_heading = "Model", default_value = "https://huggingface.co", value_parser = endpoint)]
    hf_endpoint: Url,
    /// Token for repositories that are not public; sent to the hub itself and to no other host
    #[arg(long, value_name = "TOKEN", help_heading = "Model", hide_env_values = true, value_parser = bearer)]
    hf_token: Option<HeaderValue>,
    /// Folder of the hub's own tools; a model that they have downloaded is used where it is [default: `huggingface` in the user's
    /// cache folder]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    hf_home: Option<PathBuf>,
    /// Their folder for downloads [default: `hub` in --hf-home]
    #[arg(long, value_name = "FOLDER", help_heading = "Model")]
    hf_hub_cache: Option<PathBuf>,
}

impl DownloadFlags {
    pub(super) fn options(&self) -> hub::Options {
        hub::Options {
            model_dir: self.model_dir.clone(),
            endpoint: self.hf_endpoint.clone(),
            token: self.hf_token.clone(),
            hub_home: self.hf_home.clone(),
            hub_cache: self.hf_hub_cache.clone(),
        }
    }
}
