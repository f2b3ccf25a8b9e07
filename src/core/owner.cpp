#include "core/owner.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ivfremote {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kNonceDigits = 32;

std::string TextOf(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool IsNonce(std::string_view text) {
  return text.size() == kNonceDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string EncodeOwner(const Owner& owner) {
  const Json json = {{"what", "the cluster that writes and deletes the ivfremote objects beside this one"},
                     {"cluster_name", owner.cluster},
                     {"system_identifier", owner.system_identifier},
                     {"host", owner.host},
                     {"data_directory", owner.directory},
                     {"library", owner.version_of_library},
                     {"written", owner.written},
                     {"token", owner.token},
                     {"nonce", owner.nonce}};
  // Names of hosts and directories may be in any encoding.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status DecodeOwner(std::string_view text, Owner* owner) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Status::Corrupt("not a JSON object");
  *owner = {TextOf(json, "cluster_name"), TextOf(json, "system_identifier"), TextOf(json, "host"),
            TextOf(json, "data_directory"), TextOf(json, "library"), TextOf(json, "written"), 0, TextOf(json, "nonce")};
  const auto token = json.find("token");
  if (token == json.end() || !token->is_number_unsigned() || !IsNonce(owner->nonce))
    return Status::Corrupt("its token or nonce is missing");
  owner->token = token->get<uint64_t>();
  return Status::Ok();
}

}  // namespace ivfremote
