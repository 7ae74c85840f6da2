# The library and its header, laid out as in the Python package: `pip install` takes both from here.
install(TARGETS fleetfoot LIBRARY DESTINATION fleetfoot/_native)
install(FILES include/fleetfoot.h DESTINATION fleetfoot/include)
