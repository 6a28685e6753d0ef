//! `pull`: downloads a model ahead of time, for an image or a machine that will have no network.

use anyhow::{Result, bail};
use bitnet_engine::config::{Config, ModelReference};
use bitnet_engine::hub::{self, LocalModel};

use super::progress;

/// Prints the path of the file once it is whole.
pub(crate) fn run(config: &Config, reference: &ModelReference) -> Result<()> {
    let ModelReference::Hub(_) = reference else {
        bail!(
            "{reference} is not downloaded from anywhere; what can be pulled is bitnet-2b or hf:OWNER/REPO/FILE[@REVISION]"
        );
    };
    match progress::shown(|stages| hub::resolve(reference, &config.hub(), stages))? {
        LocalModel::File(path) => println!("{}", path.display()),
        LocalModel::Demo => {}
    }
    Ok(())
}
