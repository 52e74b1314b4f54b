# A formula for a tap of one's own: brew install --formula ./packaging/mlxrun.rb
# It has never run: only its Ruby was checked. Every package is pinned by version and hash in
# packaging/requirements-macos.txt, made by packaging/lock.py.
class Mlxrun < Formula
  include Language::Python::Virtualenv

  desc "Run open-weight language models on Apple Silicon, natively on MLX"
  homepage "https://github.com/OWNER/mlxrun"
  # both to be named by whoever publishes a release: the archive that `make dist` makes
  url "https://github.com/OWNER/mlxrun/releases/download/v0.1.0/mlxrun-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.12"

  def install
    # MLX comes as a wheel: building it takes Xcode and its Metal compiler
    virtualenv_create(libexec, "python3.12", system_site_packages: false, without_pip: false)
    pip = [libexec/"bin/python", "-m", "pip", "install", "--disable-pip-version-check"]
    system(*pip, "--require-hashes", "--only-binary", ":all:", "-r", "packaging/requirements-macos.txt")
    system(*pip, "setuptools>=77")
    # the GPU does the work, so no C++ is compiled here
    ENV["MLXRUN_NATIVE"] = "0"
    system(*pip, "--no-deps", "--no-build-isolation", buildpath)
    bin.install_symlink libexec/"bin/mlxrun"
  end

  service do
    run [opt_bin/"mlxrun", "serve", "smollm2"]
    keep_alive crashed: true
    log_path var/"log/mlxrun.log"
    error_log_path var/"log/mlxrun.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mlxrun --version")
    system bin/"mlxrun", "doctor"
  end
end
