// An S3 server in this process, for what a test has to decide request by request: which are answered, how, and whether
// the answer arrives. Knows uploads, and nothing of signatures but whose key was used.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ivfremote {

class TinyS3 {
 public:
  struct Request {
    std::string method;
    std::string target;  // "/bucket/key?query"
    std::string key_id;  // of the signature
    bool create_only = false;
    std::string if_match;
    std::string body;

    bool Is(const std::string& a_method, const std::string& part_of_target) const {
      return method == a_method && target.find(part_of_target) != std::string::npos;
    }
  };
  struct Answer {
    int status = 200;
    std::string etag;
    std::string body;
    bool lost = false;  // the connection ends instead
  };
  // Called for each request, with its number from 0. A status other than 0 is the answer; else the server does what was
  // asked for, and the answer is lost if `lost`.
  using Interfere = std::function<Answer(size_t number, const Request&)>;

  TinyS3() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_, generic, length), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    EXPECT_EQ(::getsockname(listener_, generic, &length), 0);
    endpoint_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    acceptor_ = std::thread([this] { Accept(); });
  }

  ~TinyS3() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock(mutex_);
      for (int connection : connections_) ::shutdown(connection, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    for (int connection : connections_) ::close(connection);
    ::close(listener_);
  }

  const std::string& endpoint() const { return endpoint_; }

  void set_interfere(Interfere interfere) {
    const std::lock_guard lock(mutex_);
    interfere_ = std::move(interfere);
  }
  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::map<std::string, std::string> objects() {
    const std::lock_guard lock(mutex_);
    return objects_;
  }
  size_t unfinished_uploads() {
    const std::lock_guard lock(mutex_);
    return uploads_.size();
  }

 private:
  void Accept() {
    for (int connection; (connection = ::accept(listener_, nullptr, nullptr)) >= 0;) {
      const std::lock_guard lock(mutex_);
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] { Serve(connection); });
    }
  }

  static std::string HeaderOf(const std::string& head, const std::string& name) {
    for (size_t at = 0; (at = head.find("\r\n", at)) != std::string::npos;) {
      at += 2;
      if (::strncasecmp(head.c_str() + at, name.c_str(), name.size()) != 0 || head[at + name.size()] != ':') continue;
      const size_t from = head.find_first_not_of(' ', at + name.size() + 1);
      return head.substr(from, head.find("\r\n", from) - from);
    }
    return {};
  }

  void Serve(int connection) {
    std::string received;
    const auto more = [&] {
      char bytes[65536];
      const ssize_t n = ::read(connection, bytes, sizeof bytes);
      if (n > 0) received.append(bytes, static_cast<size_t>(n));
      return n > 0;
    };
    for (;;) {
      size_t end;
      while ((end = received.find("\r\n\r\n")) == std::string::npos)
        if (!more()) return;
      const std::string head = received.substr(0, end + 2);
      received.erase(0, end + 4);
      const auto length = static_cast<size_t>(std::atoll(HeaderOf(head, "content-length").c_str()));
      while (received.size() < length)
        if (!more()) return;
      Request request;
      request.method = head.substr(0, head.find(' '));
      request.target = head.substr(request.method.size() + 1);
      request.target.resize(request.target.find(' '));
      const std::string signature = HeaderOf(head, "authorization");
      const size_t credential = signature.find("Credential=");
      if (credential != std::string::npos)
        request.key_id = signature.substr(credential + 11, signature.find('/', credential) - credential - 11);
      request.create_only = !HeaderOf(head, "if-none-match").empty();
      request.if_match = HeaderOf(head, "if-match");
      request.body = received.substr(0, length);
      received.erase(0, length);
      const Answer answer = Decide(request);
      if (answer.lost) {
        ::shutdown(connection, SHUT_RDWR);
        return;
      }
      const std::string size = std::to_string(answer.body.size());
      const std::string text = "HTTP/1.1 " + std::to_string(answer.status) + " x\r\n" +
                               (answer.etag.empty() ? "" : "ETag: \"" + answer.etag + "\"\r\n") + "Content-Length: " + size + "\r\n\r\n" + (request.method == "HEAD" ? "" : answer.body);
      if (::send(connection, text.data(), text.size(), MSG_NOSIGNAL) < 0) return;
    }
  }

  Answer Decide(const Request& request) {
    const std::lock_guard lock(mutex_);
    Answer said;
    said.status = 0;
    if (interfere_) said = interfere_(requests_.size(), request);
    requests_.push_back(request);
    if (said.status != 0) return said;
    Answer answer = Do(request);
    answer.lost = said.lost;
    return answer;
  }

  static Answer Error(int status, const std::string& code) {
    return {status, "", "<Error><Code>" + code + "</Code></Error>", false};
  }

  std::string EtagOf(const std::string& key) { return std::to_string(std::hash<std::string>()(objects_[key])); }

  Answer Do(const Request& request) {
    const size_t question = request.target.find('?');
    const std::string key = request.target.substr(0, question);
    const std::string query = question == std::string::npos ? "" : request.target.substr(question + 1);
    const size_t id_at = query.find("uploadId=");
    if (query.starts_with("uploads")) {
      const std::string id = "upload" + std::to_string(++last_upload_);
      uploads_[id] = {};
      return {200, "", "<InitiateMultipartUploadResult><UploadId>" + id + "</UploadId></InitiateMultipartUploadResult>", false};
    }
    if (id_at != std::string::npos) {
      const auto upload = uploads_.find(query.substr(id_at + 9));
      if (upload == uploads_.end()) return Error(404, "NoSuchUpload");
      if (request.method == "PUT") {
        const int part = std::atoi(query.c_str() + std::string("partNumber=").size());
        upload->second[part] = request.body;
        return {200, "part" + std::to_string(part), "", false};
      }
      std::string object;
      for (const auto& [part, bytes] : upload->second) object += bytes;
      if (request.method == "POST" && request.create_only && objects_.contains(key)) return Error(412, "PreconditionFailed");
      uploads_.erase(upload);
      if (request.method == "DELETE") return {204, "", "", false};
      objects_[key] = object;
      return {200, "", "<CompleteMultipartUploadResult><ETag>" + EtagOf(key) + "</ETag></CompleteMultipartUploadResult>", false};
    }
    if (request.method == "PUT") {
      if (request.create_only && objects_.contains(key)) return Error(412, "PreconditionFailed");
      if (!request.if_match.empty() && !objects_.contains(key)) return Error(404, "NoSuchKey");
      if (!request.if_match.empty() && request.if_match != "\"" + EtagOf(key) + "\"" && request.if_match != EtagOf(key)) return Error(412, "PreconditionFailed");
      objects_[key] = request.body;
      return {200, EtagOf(key), "", false};
    }
    if (!objects_.contains(key)) return Error(404, "NoSuchKey");
    return {200, EtagOf(key), objects_[key], false};
  }

  int listener_;
  std::string endpoint_;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
  Interfere interfere_;
  std::vector<Request> requests_;
  std::map<std::string, std::string> objects_;
  std::map<std::string, std::map<int, std::string>> uploads_;
  int last_upload_ = 0;
};

}  // namespace ivfremote
