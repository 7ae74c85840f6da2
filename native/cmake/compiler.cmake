# Enables C++ where the machine has a compiler for it. Where it has none, nothing is built, the
# install says why and succeeds, and the reason is installed for `fleetfoot engines` to show.
option(FLEETFOOT_NATIVE "build the native engine" ON)
set(FLEETFOOT_ABSENT "")

if(NOT FLEETFOOT_NATIVE)
  set(FLEETFOOT_ABSENT "it was switched off by FLEETFOOT_NATIVE=OFF when fleetfoot was installed; install again without that")
elseif(WIN32)
  set(FLEETFOOT_ABSENT "it is built for Linux and macOS only, and this is ${CMAKE_HOST_SYSTEM_NAME}; choose another engine")
else()
  if(NOT CMAKE_CXX_COMPILER)
    unset(CMAKE_CXX_COMPILER CACHE)  # one may have been installed since an earlier build here
  endif()
  include(CheckLanguage)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
  endif()
  if(APPLE)
    set(fix "xcode-select --install")
  else()
    set(fix "apt install g++ (or dnf install gcc-c++, apk add g++)")
  endif()
  set(fix "run: ${fix}, then install fleetfoot again")
  if(NOT CMAKE_CXX_COMPILER)
    set(FLEETFOOT_ABSENT "no C++ compiler was found when fleetfoot was installed; ${fix}")
  elseif(NOT "cxx_std_17" IN_LIST CMAKE_CXX_COMPILE_FEATURES)
    set(FLEETFOOT_ABSENT "the C++ compiler here, ${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_VERSION}, does not know C++17; ${fix}")
  endif()
endif()

if(FLEETFOOT_ABSENT)
  message(WARNING "fleetfoot is installed without its native engine: ${FLEETFOOT_ABSENT}")
  if(SKBUILD AND CMAKE_HOST_UNIX)
    # pip shows nothing of a build that succeeds: who sits at a terminal is told all the same
    execute_process(
      COMMAND sh -c "exec 2>/dev/null >/dev/tty && printf '\\n%s\\n' \"$0\""
        "fleetfoot is installed without its native engine: ${FLEETFOOT_ABSENT}"
      RESULT_VARIABLE no_terminal ERROR_QUIET)
  endif()
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/absent.txt "${FLEETFOOT_ABSENT}\n")
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/absent.txt DESTINATION fleetfoot/_native)
endif()
