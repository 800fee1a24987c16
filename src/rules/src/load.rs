//! Settings of variables and of the file that they name, for whoever cannot ask back.
//! Promises: a fault is one line that names the variable, or the file and its line. Opens
//! no file: the caller does.

use std::fmt::Display;
use std::path::Path;

use crate::Settings;

impl Settings {
    /// Reads `variables`, and what `read` gives of the file that `FLEXCAST_CONFIG` names.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn load<N: AsRef<str>, V: AsRef<str>, E: Display>(
        variables: impl IntoIterator<Item = (N, V)>,
        read: impl FnOnce(&Path) -> Result<Vec<u8>, E>,
    ) -> Result<Settings, String> {
        let settings = Settings::from_variables(variables).map_err(|fault| fault.to_string())?;
        let Some(path) = settings.config().map(Path::to_path_buf) else {
            return Ok(settings);
        };
        let fault = |fault: &dyn Display| format!("FLEXCAST_CONFIG={}: {fault}", path.display());
        let bytes = read(&path).map_err(|error| fault(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| fault(&"expected text in UTF-8"))?;
        settings.with_config(&text).map_err(|error| fault(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: [(&str, &str); 2] = [
        ("FLEXCAST_CONFIG", "/etc/f.toml"),
        ("FLEXCAST_MAP", "10.0.0.1"),
    ];

    fn load(text: &[u8]) -> Result<Settings, String> {
        Settings::load(FILE, |path| {
            assert_eq!(path, Path::new("/etc/f.toml"));
            Ok::<_, &str>(text.to_vec())
        })
    }

    #[test]
    fn a_file_is_read_where_one_is_named_and_only_there() {
        let settings = load(b"map = [\"10.0.0.2\"]\nport = 7").unwrap();
        assert_eq!((settings.map().rules().len(), settings.port()), (2, 7));
        let unread = |_: &Path| -> Result<Vec<u8>, &str> { panic!("none is named") };
        let settings = Settings::load([FILE[1]], unread).unwrap();
        assert_eq!(settings.map().rules().len(), 1);
    }

    #[test]
    fn a_fault_names_the_file() {
        let missing = |_: &Path| Err::<Vec<u8>, _>("not there");
        let fault = Settings::load(FILE, missing).unwrap_err();
        assert_eq!(fault, "FLEXCAST_CONFIG=/etc/f.toml: not there");
        let fault = load(b"\xff").unwrap_err();
        assert_eq!(fault, "FLEXCAST_CONFIG=/etc/f.toml: expected text in UTF-8");
        let fault = load(b"prot = 7").unwrap_err();
        assert!(
            fault.starts_with("FLEXCAST_CONFIG=/etc/f.toml: configuration"),
            "{fault}"
        );
        let none: [(&str, &str); 1] = [("FLEXCAST_MAPS", "")];
        let fault = Settings::load(none, missing).unwrap_err();
        assert!(fault.contains("did you mean FLEXCAST_MAP?"), "{fault}");
    }
}
