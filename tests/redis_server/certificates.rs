//! Certificates for a server that speaks TLS, made by the command `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Files with certificates and keys.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Who has signed the server's certificate: what a client has to trust.
    pub authority: PathBuf,
    /// That of the server, for `localhost` and 127.0.0.1. A client can show it as well.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const CONFIGURATION: &str = "
[req]
distinguished_name = name
prompt = no
[name]
CN = tests of hapax
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth, clientAuth
";

impl Certificates {
    pub(super) fn make(directory: &Path) -> Self {
        std::fs::write(directory.join("openssl.cnf"), CONFIGURATION).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for arguments in [
            &format!(
                "req -x509 -config openssl.cnf -extensions authority {key} -keyout authority.key -out authority.crt \
                 -days 2"
            ),
            &format!("req -config openssl.cnf {key} -keyout server.key -out server.csr"),
            "x509 -req -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 \
             -extfile openssl.cnf -extensions server -out server.crt",
        ] {
            let output = Command::new("openssl")
                .args(arguments.split_whitespace())
                .current_dir(directory)
                .output()
                .expect("these tests need the command openssl: install it, or run ci/test.sh");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {arguments}: {said}");
        }
        Self {
            authority: directory.join("authority.crt"),
            certificate: directory.join("server.crt"),
            key: directory.join("server.key"),
        }
    }
}
