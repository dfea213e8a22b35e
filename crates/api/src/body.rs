//! Bodies of requests: read with the name of the field that is wrong.

use config::{Location, Path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{ErrorBody, ErrorCode};

/// Reads a body. An empty one is `{}`.
///
/// # Errors
/// 400 that names the field and its value, if the body is no JSON or no `T`.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorBody> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(ErrorBody::new(ErrorCode::BadRequest, "the body is an object of fields"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let at = Some((error.inner().line(), error.inner().column()));
        wrong(error.path().into(), error.inner(), serde_json::from_slice(body).ok(), at)
    })?;
    json.end()
        .map_err(|error| wrong(Path::root(), &error, None, Some((error.line(), error.column()))))?;
    Ok(value)
}

/// `current` changed by a JSON merge patch (RFC 7396).
///
/// # Errors
/// 400 that names the field and its value, if the patch is no object or its outcome is no `T`.
pub fn merge_patch<T: Serialize + DeserializeOwned>(
    current: &T,
    patch: Value,
) -> Result<T, ErrorBody> {
    let Value::Object(_) = patch else {
        return Err(ErrorBody::new(ErrorCode::BadRequest, "a patch is an object of fields"));
    };
    let mut value = serde_json::to_value(current)
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    merge(&mut value, patch);
    serde_path_to_error::deserialize(&value)
        .map_err(|error| wrong(error.path().into(), error.inner(), Some(value.clone()), None))
}

/// RFC 7396 section 2, `MergePatch`.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
            } else {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

fn wrong(
    path: Path,
    error: &serde_json::Error,
    whole: Option<Value>,
    at: Option<(usize, usize)>,
) -> ErrorBody {
    let mut explained = config::explain_serde(path, &without_position(error));
    let found = whole.as_ref().and_then(|whole| explained.path.find(whole));
    explained.value = found.and_then(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) | Value::Array(_) => None,
        other => Some(other.to_string()),
    });
    explained.location = at.and_then(|(line, column)| {
        Some(Location { line: line.try_into().ok()?, column: column.try_into().ok()? })
    });
    explained.into()
}

/// The message without the position that serde_json puts behind it.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use config::Service;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorDetail;
    use crate::service::ServerSettings;

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> ErrorDetail {
        from_json::<T>(body.as_bytes()).expect_err("a refusal").error.as_ref().clone()
    }

    #[test]
    fn a_wrong_field_is_named_with_its_value() {
        let error = refusal::<ServerSettings>(r#"{"weight": 65536}"#);
        assert_eq!(error.field.as_deref(), Some("weight"));
        assert_eq!(error.value.as_deref(), Some("65536"));
        assert_eq!(error.message, "65536 is not a number from 0 to 65535");
        let error = refusal::<Service>(r#"{"vips": ["203.0.113.10"], "protocol": "tcp"}"#);
        assert_eq!(error.field.as_deref(), Some("vips[0]"));
        assert_eq!(error.value.as_deref(), Some("203.0.113.10"));
        let error = refusal::<ServerSettings>(r#"{"wieght": 1}"#);
        assert_eq!(error.field.as_deref(), Some("wieght"));
        assert_eq!(error.value.as_deref(), Some("1"));
        assert_eq!(error.hint.as_deref(), Some("did you mean `weight`?"));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let error = refusal::<ServerSettings>("{\n\"weight\": }");
        assert_eq!((error.code, error.line), (ErrorCode::BadRequest, Some(2)));
        assert_eq!(refusal::<ServerSettings>("{} {}").code, ErrorCode::BadRequest);
        assert_eq!(refusal::<ServerSettings>("[]").code, ErrorCode::BadRequest);
        assert_eq!(from_json::<ServerSettings>(b" ").unwrap(), ServerSettings::default());
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let old = ServerSettings { weight: 7, ..ServerSettings::default() };
        let new = merge_patch(&old, json!({"limits": {"upper": 9}})).unwrap();
        assert_eq!((new.weight, new.limits.upper), (7, Some(9)));
        let new = merge_patch(&new, json!({"weight": null, "limits": {"lower": 3}})).unwrap();
        assert_eq!((new.weight, new.limits.upper, new.limits.lower), (1, Some(9), Some(3)));
        let error = merge_patch(&new, json!({"weight": "x"})).unwrap_err().error;
        assert_eq!(error.field.as_deref(), Some("weight"));
        assert!(merge_patch(&new, json!(5)).is_err());
    }
}
