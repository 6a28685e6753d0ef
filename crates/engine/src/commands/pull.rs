//! `pull`: downloads a model ahead of time, for an image or a machine that will have no network.

use std::io::Write;

use anyhow::{Result, bail};
use bitnet_engine::config::{Config, ModelReference};
use bitnet_engine::hub::{self, LocalModel};

use super::output::Output;
use super::progress;

/// Prints the path of the file once it is whole.
pub(crate) fn run(config: &Config, reference: &ModelReference) -> Result<()> {
    let ModelReference::Hub(_) = reference else {
        bail!(
            "{reference} is not downloaded from anywhere; what can be pulled is bitnet-2b or hf:OWNER/REPO/FILE[@REVISION]"
        );
    };
    match progress::shown(|stages| hub::resolve(reference, &config.hub(), stages))? {
        LocalModel::File(path) => writeln!(Output::new(), "{}", path.display())?,
        LocalModel::Demo => {}
    }
    Ok(())
}
