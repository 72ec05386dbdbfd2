/* A module for OpenIPMI's ipmi_sim, which knows no DCMI: it answers Get Power Reading with 742 W. */
typedef void (*handler)(void *mc, void *message, unsigned char *answer, unsigned int *size, void *data);
extern void ipmi_emu_register_group_extension_handler(unsigned char group, handler function, void *data);

static void power(void *mc, void *message, unsigned char *answer, unsigned int *size, void *data) {
  static const unsigned char reading[] = {0, 0xdc, 0xe6, 2, 22, 0, 0x93, 3, 0xcf, 2, 0, 0, 0, 0x60, 0xe8, 3, 0, 0, 0x40};
  for (unsigned i = 0; i < sizeof reading; i++) answer[i] = reading[i];
  *size = sizeof reading;
}
int ipmi_sim_module_print_version(void *sys, const char *options) { return 0; }
int ipmi_sim_module_init(void *sys, const char *options) {
  ipmi_emu_register_group_extension_handler(0xdc, power, 0);
  return 0;
}
