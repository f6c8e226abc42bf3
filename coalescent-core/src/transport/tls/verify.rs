//! Verification of the peer's key and signature in a handshake.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, PeerMisbehaved, SignatureScheme,
};

use crate::transport::allow::Allow;
use crate::transport::identity::PublicKey;

/// The reason why a peer that proved its key is rejected, carried inside of rustls's error.
#[derive(Debug)]
pub(super) enum Refusal {
    WrongKey {
        expected: PublicKey,
        proven: PublicKey,
    },
    NotAllowed(PublicKey),
    NotAKey,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongKey { .. } => "not the expected key",
            Self::NotAllowed(_) => "not an allowed key",
            Self::NotAKey => "not one ed25519 public key",
        })
    }
}

impl StdError for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// A verifier of peers, for both sides of a connection.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) expected: Option<PublicKey>,
    pub(super) allow: Allow,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// Checks the signature before the key. A stranger who merely names a key therefore learns
    /// nothing about the list, and a key that an error mentions was proven.
    fn verify(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let proven = key_of(spki, &[])?;
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        let valid = verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)?;
        match self.expected {
            Some(expected) if expected != proven => {
                Err(Refusal::WrongKey { expected, proven }.into())
            }
            _ if !self.allow.contains(&proven) => Err(Refusal::NotAllowed(proven).into()),
            _ => Ok(valid),
        }
    }
}

/// Returns the only key, which takes the place of a certificate chain.
pub(super) fn key_of(
    spki: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
) -> Result<PublicKey, Error> {
    match PublicKey::from_spki(spki) {
        Some(key) if more.is_empty() => Ok(key),
        _ => Err(Refusal::NotAKey.into()),
    }
}

fn no_tls12() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        key_of(end_entity, intermediates).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
